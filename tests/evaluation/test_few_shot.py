"""Few-shot probes: what is drawn and held out, and the table of scores."""

import math

import pytest
import torch

from clipedu import load_pairs
from clipedu.data.subset import Subset
from clipedu.evaluation.few_shot import (
    AFTER,
    BEFORE,
    draw_shots,
    features_and_embeddings,
    held_out,
    probe_scores,
    summarise,
)
from clipedu.evaluation.recall import class_prototypes, zero_shot
from clipedu.inference.embed import embed_images
from clipedu.models.dual_encoder import evaluating
from clipedu.utils.errors import ClipeduError
from clipedu.utils.statistics import interval

LABELS = torch.tensor([2, 0, 1, 1, 0, 2, 2, 0, 1, 1, 0, 2, 2])


def two_classes(first, last, split="labelled"):
    """Rows of the zero-shot scenes from two classes."""
    stream = load_pairs("scenes", "zeroshot", size=2400)
    rows = ((stream.labels == 37) | (stream.labels == 74)).nonzero()[:, 0][first:last]
    return Subset(stream, rows, split)


@pytest.fixture(scope="module")
def sets():
    return two_classes(0, 24), two_classes(24, 40, "zeroshot")


@pytest.fixture(scope="module")
def table(model, sets):
    return probe_scores(model, *sets, shots=(1, 4, None), seeds=(0, 1, 2), logit_scale=20.0)


def test_shots_are_so_many_of_each_class_and_nested():
    for seed in range(5):
        few, more = draw_shots(LABELS, 1, seed), draw_shots(LABELS, 3, seed)
        assert torch.bincount(LABELS[few]).tolist() == [1, 1, 1] and torch.bincount(LABELS[more]).tolist() == [3, 3, 3]
        assert set(few.tolist()) < set(more.tolist()) and len(set(more.tolist())) == 9
        assert torch.equal(more, draw_shots(LABELS, 3, seed))
        assert torch.equal(LABELS[more], LABELS[more].sort().values)
    assert len({tuple(draw_shots(LABELS, 1, seed).tolist()) for seed in range(20)}) > 5


def test_all_shots_are_all_pictures():
    assert sorted(draw_shots(LABELS, None, 0).tolist()) == list(range(len(LABELS)))


def test_more_shots_than_there_are():
    with pytest.raises(ClipeduError, match="5 shots are more than class 0 has labelled pictures: at most 4"):
        draw_shots(LABELS, 5, 0)


def test_a_quarter_of_each_class_is_held_out_and_of_one_picture_none():
    for counts, held in (([1, 1], [0, 0]), ([2, 3], [1, 1]), ([8, 17], [2, 4]), ([1, 4], [0, 1])):
        labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        mask = held_out(labels)
        assert torch.bincount(labels[mask], minlength=len(counts)).tolist() == held
        assert mask[-1] == (held[-1] > 0)


def test_features_and_embeddings_are_those_of_the_model(model, sets):
    features, embeddings = features_and_embeddings(model, sets[1])
    assert torch.equal(embeddings, embed_images(model, sets[1]))
    with evaluating(model), torch.no_grad():
        assert torch.allclose(features, model.image_features(sets[1].pixels(torch.arange(16))), atol=1e-5)
    assert features.shape[1] == model.image_projection.in_features


def test_features_of_a_frozen_encoder_are_the_same(model, sets, monkeypatch):
    ours = features_and_embeddings(model, sets[1])
    monkeypatch.setattr(model, "frozen", ("image",))
    for found, right in zip(features_and_embeddings(model, sets[1]), ours, strict=True):
        assert torch.allclose(found, right, atol=1e-5)


def test_the_table_has_a_row_a_probe_that_was_trained(table):
    trained = table[table["probe"] != "zero-shot"]
    assert len(trained) == 2 * 4 * (3 + 3 + 1)  # features x probes x draws, all pictures once
    assert set(trained["features"]) == {BEFORE, AFTER}
    assert set(trained["probe"]) == {"linear", "knn", "gda", "gda + zero-shot"}
    assert table["top1"].between(0, 100).all()
    assert dict(zip(trained["probe"], trained["setting"], strict=True)) == {
        "linear": "C", "knn": "k", "gda": "", "gda + zero-shot": "alpha"
    }  # fmt: skip


def test_of_one_picture_a_class_nothing_is_chosen(table):
    one = table[(table["shots"] == 1) & (table["probe"] == "linear")]
    assert one["value"].nunique() == 1


def test_the_zero_shot_row_is_that_of_the_same_classes(table, model, sets):
    (row,) = table[table["probe"] == "zero-shot"].to_dict("records")
    names = [sets[1].class_names[label] for label in (37, 74)]
    prototypes = class_prototypes(model, names, sets[1].templates)
    labels = (sets[1].labels == 74).long()
    right = zero_shot(embed_images(model, sets[1]), prototypes, labels, model.geometry, ks=(1,))["top1"]
    assert row["top1"] == pytest.approx(right) and row["shots"] == 0 and row["features"] == AFTER


def test_the_same_call_gives_the_same_numbers(table, model, sets):
    again = probe_scores(model, *sets, probes=["knn"], shots=(4,), seeds=(1,), logit_scale=20.0)
    for place in (BEFORE, AFTER):
        old, new = (
            x[(x["features"] == place) & (x["probe"] == "knn") & (x["shots"] == 4) & (x["seed"] == 1)]["top1"].item()
            for x in (table, again)
        )
        assert old == new


def test_means_are_students(table):
    summary = summarise(table)
    for row in summary.itertuples():
        same = (table["features"] == row.features) & (table["probe"] == row.probe)
        same &= table["shots"].isna() if math.isnan(row.shots) else table["shots"] == row.shots
        mean, half = interval(table[same]["top1"].tolist())
        assert row.seeds == same.sum() and row.top1 == pytest.approx(mean)
        assert row.interval == pytest.approx(half, nan_ok=True)


def test_colours_and_shapes_are_learned_from_many_pictures(model):
    """A model that was hardly trained still sees more than nothing of two classes that differ in both."""
    scores = probe_scores(model, two_classes(0, 40), two_classes(40, 48, "zeroshot"), probes=["linear", "gda"])
    assert scores[scores["probe"] == "linear"]["top1"].max() > 50


def test_what_cannot_be_compared_is_said(model, sets):
    train, test = sets
    stream = load_pairs("scenes", "zeroshot", size=100)
    for words, options, message in (
        ((load_pairs("scenes", "val", size=4), test), {}, "scenes/val has no labels"),
        ((train, stream), {}, "98 classes of scenes/zeroshot have no picture in scenes/labelled to train on, e.g. class 0 'red circle'"),
        ((Subset(stream, torch.tensor([0]), "labelled"), Subset(stream, torch.tensor([0]), "zeroshot")), {}, "one class only"),
        (sets, {"shots": (0,)}, "shots must be whole numbers of at least 1, or None for all, got 0"),
        (sets, {"shots": (4, 4)}, "shots: 4 is given twice"),
        (sets, {"shots": (200,)}, "200 shots are more than class 0 has labelled pictures: at most 12"),
        (sets, {"seeds": (-1,)}, "seeds must be whole numbers of at least 0, got -1"),
        (sets, {"seeds": ()}, "at least one number of shots and one seed"),
        (sets, {"probes": ["svm"]}, "unknown probe 'svm'"),
        (sets, {"logit_scale": -1.0}, "logit_scale must be a number > 0, got -1.0"),
    ):  # fmt: skip
        with pytest.raises(ClipeduError) as error:
            probe_scores(model, *words, **options)
        assert message in str(error.value)


def test_a_set_of_one_geometry_of_its_own(sets, quick, tmp_path):
    """Embeddings of hyperbolic space are compared by its distance, and are its tangent vectors."""
    from clipedu.models import build_model

    experiment = quick.replace(geometry="lorentz")
    from clipedu.data.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(list(sets[0].class_names), experiment.text_length)
    model = build_model(experiment, tokenizer.vocab_size, special_tokens=tokenizer.special_tokens).eval()
    model.tokenizer = tokenizer
    scores = probe_scores(model, *sets, shots=(4,), seeds=(0,))
    assert scores["top1"].notna().all() and len(scores) == 9
