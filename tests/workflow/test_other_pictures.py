"""Pictures that are replaced under a run: nothing of the old ones is used for the new ones, and it is said."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import torch

from clipedu import ClipeduError, Experiment, fit, load_run, resume
from clipedu.cli.parser import main
from clipedu.data.pairs import Pairs
from clipedu.data.scenes.dataset import Scenes
from clipedu.studies.grid import grid_baseline, run_grid, shared_data
from clipedu.training.datasets import Data, load_data
from clipedu.training.trainer import Trainer
from tests.helpers.shard_maker import photo, sample, write_tar

FROZEN = {"image_frozen": True, "text_frozen": True}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cache"))


def birds(folder, *, first=0, split="train", rows=12, words="bird", only=None):
    """Shards with equal keys and captions whatever the pictures: number `first`, `first + 1`, ..."""
    files = []
    for n in range(rows):
        seed = first + n if only is None or n in only else n
        files += sample(f"k{n:02d}", photo(seed), [f"{words} {n}"])
    return write_tar(folder / f"birds-{split}-0.tar", files)


@pytest.fixture
def experiment(tmp_path):
    return small(tmp_path / "birds")


def small(folder, **changes):
    birds(folder)
    birds(folder, first=100, split="val", rows=6)
    settings = {"train_size": None, "batch_size": 4, "epochs": 2, "image_size": 32, "embedding_dim": 8}
    return Experiment(data=str(folder), **{**settings, **changes})


def weights(run):
    return torch.cat([value.flatten().double() for _, value in sorted(run.weights().items())])


def start_and_stop(experiment, folder, monkeypatch):
    original = Trainer._train_on

    def interrupt(self, *arguments):
        if self.step == 4:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_train_on", interrupt)
        fit(experiment, folder, progress=False, report=False)
    return load_run(folder)


def test_frozen_features_are_of_the_pictures_that_are_there(tmp_path):
    one, two = small(tmp_path / "one" / "birds", **FROZEN), small(tmp_path / "two" / "birds", **FROZEN)
    birds(tmp_path / "two" / "birds", first=500)
    data = [load_data(experiment) for experiment in (one, two)]
    assert data[0].train.fingerprint() == data[1].train.fingerprint()
    runs = [fit(e, tmp_path / f"run{n}", progress=False, report=False) for n, e in enumerate((one, two))]
    assert not torch.equal(weights(runs[0]), weights(runs[1]))
    birds(tmp_path / "one" / "birds", first=500)  # the same pictures elsewhere: the same features, and the same run
    third = fit(one, tmp_path / "run3", progress=False, report=False)
    assert torch.equal(weights(runs[1]), weights(third)) and runs[1].metrics == third.metrics


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"first": 500}, "the pictures"),
        ({"first": 500, "only": [3]}, "the pictures"),
        ({"words": "fish"}, "the captions"),
        ({"words": "fish", "first": 500}, "the pictures; the captions"),
        ({"rows": 13}, r"the number of pairs \(it was 12, now it is 13\)"),
    ],
)
def test_a_stopped_run_does_not_go_on_with_other_data(experiment, tmp_path, monkeypatch, change, what):
    run = start_and_stop(experiment, tmp_path / "run", monkeypatch)
    birds(tmp_path / "birds", **change)
    with pytest.raises(ClipeduError, match=rf"has changed since the run was stopped \({what}\)") as caught:
        resume(run.folder, progress=False)
    assert "\n" not in str(caught.value)
    birds(tmp_path / "birds")
    assert resume(run.folder, progress=False, report=False).status == "finished"


@pytest.mark.parametrize("older", [False, True])
def test_changed_pictures_are_refused_before_anything_is_computed_of_them(experiment, tmp_path, monkeypatch, older):
    run = start_and_stop(experiment.replace(**FROZEN), tmp_path / "run", monkeypatch)
    if older:  # what the pairs were is in the training state alone
        (run.checkpoint() / "checkpoint.json").unlink()
    birds(tmp_path / "birds", first=500)
    monkeypatch.setattr("clipedu.workflow.resuming.prepare", lambda *_, **__: pytest.fail("features were computed"))
    with pytest.raises(ClipeduError, match=r"has changed since the run was stopped \(the pictures\)"):
        resume(run.folder, progress=False)


def test_a_run_of_an_older_version_goes_on(experiment, tmp_path, monkeypatch, caplog):
    whole = fit(experiment, tmp_path / "whole", progress=False, report=False)
    run = start_and_stop(experiment, tmp_path / "run", monkeypatch)
    state = run.training_state("cpu")
    del state["identity"]
    torch.save(state, run.checkpoint() / "state.pt")
    (run.checkpoint() / "checkpoint.json").unlink()  # its sums: older versions kept none
    resumed = resume(run.folder, progress=False, report=False)
    assert resumed.metrics == whole.metrics and "whether its pictures have changed cannot be told" in caplog.text


def test_a_set_to_score_on_that_changed_is_named(experiment, tmp_path, capsys, caplog):
    run = fit(experiment, tmp_path / "run", progress=False, report=False)
    scores, said = run.metrics, "birds/val has changed since this run was trained (the pictures)"
    birds(tmp_path / "birds", first=900, split="val", rows=6)
    assert main(["evaluate", str(run.folder)]) == 0
    assert said in caplog.text and load_run(run.folder).metrics != scores
    assert said in (run.folder / "report.html").read_text() and said in (run.folder / "report.md").read_text()
    birds(tmp_path / "birds", first=100, split="val", rows=6)
    caplog.clear()
    assert main(["evaluate", str(run.folder)]) == 0
    assert said not in caplog.text and said not in (run.folder / "report.html").read_text()
    assert load_run(run.folder).metrics == scores


def test_a_grid_does_not_mix_two_sets_of_pictures(experiment, tmp_path):
    birds(tmp_path / "birds", rows=40, words="red bird")
    experiment = experiment.replace(**FROZEN)
    cells = {"a": experiment, "b": experiment.replace(loss="cyclip")}
    folder = tmp_path / "grid"
    (first,) = run_grid({"a": cells["a"]}, folder, progress=False)
    kept = grid_baseline(experiment, folder)
    assert kept == grid_baseline(experiment, folder) == json.loads((folder / "baseline.json").read_text())
    birds(tmp_path / "birds", rows=40, first=500, words="red bird")
    with pytest.raises(ClipeduError, match=r"birds/train has changed since \(the pictures\). Give another --folder"):
        list(run_grid(cells, folder, progress=False))
    assert not (folder / "b").exists()
    assert next(run_grid({"a": cells["a"]}, folder, progress=False)).metrics == first.metrics, "nothing is missing"
    fit(experiment, tmp_path / "other" / "a", progress=False, report=False)
    (tmp_path / "other" / "baseline.json").write_text(json.dumps(kept))
    assert grid_baseline(experiment, tmp_path / "other", shared_data(experiment))["sets"] != kept["sets"]


def no_words(folder, **changes):
    """As img2dataset writes them: no name says which split it is."""
    os.replace(birds(folder), folder / "00000.tar")
    return Experiment(data=str(folder), **{"train_size": None, "batch_size": 4, "epochs": 1, "image_size": 32, "embedding_dim": 8, **changes})  # fmt: skip


def test_shards_of_no_split_are_not_scored_on_unasked(tmp_path, capsys):
    experiment = no_words(tmp_path / "birds")
    for changes in ({}, {"train_size": 5}):
        with pytest.raises(ClipeduError, match="has no pairs of its own to score on.*--eval-data NAME") as caught:
            fit(experiment.replace(**changes), tmp_path / "run", progress=False)
        assert "\n" not in str(caught.value) and not (tmp_path / "run").exists() and not (tmp_path / "cache").exists()
    with pytest.raises(ClipeduError, match="no pairs of its own"):
        list(run_grid({"a": experiment}, tmp_path / "grid", progress=False))
    assert main(["train", "--data", str(tmp_path / "birds"), "--train-size", "none", "--batch-size", "4"]) == 2
    assert "--eval-data" in capsys.readouterr().err


def test_equal_pairs_in_shards_of_two_names(tmp_path):
    folder = tmp_path / "birds"
    birds(folder)
    birds(folder, split="val")
    experiment = Experiment(data=str(folder), train_size=None, batch_size=4, epochs=1, embedding_dim=8)
    with pytest.raises(ClipeduError, match="no pairs of its own"):
        fit(experiment, tmp_path / "run", progress=False)


def test_who_asks_for_the_training_pairs_gets_them_and_is_told(tmp_path, capsys, caplog):
    folder = tmp_path / "birds"
    experiment = no_words(folder, eval_data=str(folder))
    run = fit(experiment, tmp_path / "run", progress=False)
    said = "all 12 pairs to score on are also trained on"
    assert run.metrics["retrieval_trained_pairs"] == run.metrics["retrieval_trained_images"] == 12
    assert said in caplog.text, "before the training"
    assert f"A{said[1:]}" in (run.folder / "report.html").read_text()
    assert main(["evaluate", str(run.folder)]) == 0 and said in capsys.readouterr().out
    birds(tmp_path / "others", first=100, split="val")
    assert main(["evaluate", str(run.folder), "--eval-data", str(tmp_path / "others")]) == 0
    assert "trained on" not in capsys.readouterr().out
    os.remove(run.folder / "train-rows.npy")  # a run of an older version has the fingerprint
    assert main(["evaluate", str(run.folder)]) == 0 and said in capsys.readouterr().out


def test_a_part_of_the_pairs_is_counted(tmp_path, capsys):
    folder = tmp_path / "birds"
    birds(folder)
    birds(folder, first=50, split="val", rows=6, only=[0, 2, 4])  # pairs 1, 3 and 5 are those of train
    experiment = Experiment(data=str(folder), train_size=None, batch_size=4, epochs=1, embedding_dim=8)
    run = fit(experiment, tmp_path / "run", progress=False)
    assert run.metrics["retrieval_trained_pairs"] == 3
    assert "3 of 6 pairs to score on are also trained on." in (run.folder / "report.html").read_text()
    few = fit(experiment.replace(train_size=4), tmp_path / "few", progress=False, report=False)
    assert few.metrics["retrieval_trained_pairs"] == 2, "pair 5 is not among the four that are trained on"
    assert main(["report", str(run.folder), str(few.folder), "--folder", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "report.html").read_text()
    assert "3 of 6 pairs to score on are also trained on (run)." in page and "trained on (few)." in page


def test_sets_of_a_caller_are_told_but_not_refused(tmp_path, quick):
    data = load_data(quick)
    same = Data(train=data.train, tokenizer=data.tokenizer, scored=[data.train])
    run = fit(quick, tmp_path / "run", data=same, progress=False, report=False)
    assert run.metrics["retrieval_trained_pairs"] == 64


def test_pictures_of_a_caller_are_hashed_once_a_run(quick, tmp_path, monkeypatch):
    data = load_data(quick)
    hashed, real = [], Pairs._hash_pictures
    monkeypatch.setattr(Pairs, "_hash_pictures", lambda self: hashed.append(self) or real(self))
    monkeypatch.setattr(Scenes, "picture_digests", Pairs.picture_digests)
    fit(quick.replace(image_frozen=True), tmp_path / "run", data=data, progress=False, report=False)
    assert len(hashed) == 3
    data.train.picture_digests()
    assert len(hashed) == 4, "afterwards it may change again"


def test_ordinary_sets_give_no_alarm(finished):
    assert not [key for key in finished.metrics if "trained" in key]
    sets = json.loads((finished.folder / "data.json").read_text())
    assert all({"pictures", "captions", "rows", "image_size"} <= entry["identity"].keys() for entry in sets)
    assert replace(finished).metrics == finished.metrics
