"""The data of an experiment: opened once, checked before it is read, and with a word on what is missing."""

import pytest

from clipedu import ClipeduError, Experiment
from clipedu.training import datasets
from clipedu.training.datasets import (
    Data,
    build_tokenizer,
    data_key,
    describe,
    evaluation_sets,
    load_data,
    load_train,
    load_training_data,
)
from tests.helpers.shard_maker import photo, sample, write_tar


def test_all_sets_of_an_experiment(quick):
    data = load_data(quick)
    assert isinstance(data, Data) and len(data.train) == 64
    assert [(pairs.name, pairs.split) for pairs in data.scored] == [("scenes", "val"), ("scenes", "zeroshot")]
    assert data.tokenizer.vocab_size > 50


def test_training_data_opens_no_other_set(quick, monkeypatch):
    monkeypatch.setattr(datasets, "evaluation_sets", None)  # calling it would fail
    data = load_training_data(quick)
    assert len(data.train) == 64 and data.tokenizer.vocab_size == load_training_data(quick).tokenizer.vocab_size


def test_a_given_tokenizer_is_taken(quick, monkeypatch):
    tokenizer = build_tokenizer(quick, load_train(quick))
    monkeypatch.setattr(datasets, "build_tokenizer", None)
    assert load_data(quick, tokenizer).tokenizer is tokenizer
    assert load_training_data(quick, tokenizer).tokenizer is tokenizer


@pytest.mark.parametrize("load", [load_data, load_training_data])
def test_names_are_checked_before_any_data_is_read(quick, monkeypatch, load):
    monkeypatch.setattr(datasets, "load_pairs", None)
    with pytest.raises(ClipeduError, match="unknown loss 'sogcrl'. Did you mean 'sogclr'"):
        load(quick.replace(loss="sogcrl"))


def test_a_device_that_is_not_there_is_reported_before_any_data_is_read(quick, monkeypatch):
    monkeypatch.setattr(datasets, "load_pairs", None)
    with pytest.raises(ClipeduError, match="device='cuda:99'"):
        load_training_data(quick.replace(device="cuda:99"))


def test_a_batch_larger_than_the_data(tmp_path):
    write_tar(tmp_path / "x-train-0.tar", sample("a", photo(1), ["a dog"]))
    with pytest.raises(ClipeduError, match="batch_size=8 is larger than the data: .* has 1 pairs"):
        load_train(Experiment(data=str(tmp_path), batch_size=8))


def test_shards_without_val_say_what_to_score_on(tmp_path):
    write_tar(tmp_path / "x-train-0.tar", sample("a", photo(1), ["a dog"]))
    base = Experiment(data=str(tmp_path), batch_size=2)
    with pytest.raises(ClipeduError, match="no shards of split 'val'.* Give pairs to score on: --eval-data NAME"):
        evaluation_sets(base)
    with pytest.raises(ClipeduError) as caught:  # who gave --eval-data needs no such advice
        evaluation_sets(base.replace(eval_data=str(tmp_path)))
    assert "--eval-data" not in str(caught.value)
    (only,) = evaluation_sets(base.replace(eval_data="scenes"))
    assert (only.name, only.split) == ("scenes", "val")


def test_what_a_run_keeps_of_a_set(quick):
    pairs = load_train(quick)
    assert describe(pairs) == {
        "name": "scenes",
        "split": "train",
        "rows": 64,
        "image_size": 32,
        "fingerprint": pairs.fingerprint(),
        "identity": pairs.identity(),
        "skipped": [],
        "left_out": [],
        "captions_cut": None,
    }


def test_pairs_held_out_are_scored_on_alone_and_not_trained_on(quick, monkeypatch):
    experiment = quick.replace(holdout=0.25)
    with monkeypatch.context() as patch:
        patch.setattr(datasets, "choose_prompts", lambda *a, **k: pytest.fail("another set was opened"))
        data = load_data(experiment)
    (held,) = data.scored
    assert (len(data.train), len(held), held.split) == (48, 16, "held-out")
    assert not set(data.train.rows.tolist()) & set(held.rows.tolist())
    (again,) = evaluation_sets(experiment)
    assert again.identity() == held.identity()
    assert len(datasets.load_train(experiment)) == 48 and len(load_data(quick).train) == 64


def test_held_out_whatever_the_seed_and_other_settings_are(tmp_path, quick):
    write_tar(tmp_path / "a.tar", [file for k in range(40) for file in sample(f"{k:03}", photo(k), [f"picture {k}"])])
    own = quick.replace(data=str(tmp_path), holdout=0.25, batch_size=8, train_size=None)
    first = load_data(own).scored[0].identity()  # shards without a split have no other pairs to score on
    assert load_data(own.replace(seed=7, lr=0.5)).scored[0].identity() == first


def test_what_is_left_to_train_on_must_hold_a_batch(quick):
    with pytest.raises(ClipeduError, match="scenes has 16 pairs left to train on with holdout=0.75"):
        load_data(quick.replace(holdout=0.75, batch_size=32))
    with pytest.raises(
        ClipeduError, match="holdout=0.01 of 64 pairs of scenes/train leaves 63 to train on and 1 to score on"
    ):
        load_data(quick.replace(holdout=0.01))


@pytest.mark.parametrize(
    "changes",
    [
        {"data_seed": 9},
        {"train_size": 77},
        {"holdout": 0.25},
        {"image_size": 40},
        {"text_length": 20},
        {"batch_size": 12},
    ],
)
def test_what_decides_which_data_are_opened_is_in_the_key(changes, quick):
    assert data_key(quick.replace(**changes)) != data_key(quick)


def test_experiments_that_differ_in_other_settings_share_their_data(quick):
    other = quick.replace(
        seed=9, loss="sogclr", optimizer="sgd", lr=0.5, epochs=3, geometry="lorentz", track=["tensorboard"]
    )
    assert data_key(other) == data_key(quick)


def test_a_seed_leaves_the_scenes_as_they_are_and_a_data_seed_draws_others():
    base = Experiment(train_size=64, batch_size=16)
    one, two, other = (load_data(base.replace(**changes)) for changes in ({}, {"seed": 5}, {"data_seed": 5}))
    for which in (lambda data: data.train, lambda data: data.scored[0], lambda data: data.scored[1]):
        assert which(one).fingerprint() == which(two).fingerprint() != which(other).fingerprint()
