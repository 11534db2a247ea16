"""Calibration: the error as torchmetrics has it, and the temperature that fits."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from clipedu import load_pairs
from clipedu.evaluation.calibration import (
    calibrate,
    calibrate_zero_shot,
    calibration_error,
    fit_temperature,
    reliability,
    zero_shot_logits,
)
from clipedu.evaluation.recall import class_prototypes, zero_shot
from clipedu.inference.embed import embed_images
from clipedu.utils.errors import ClipeduError
from tests.evaluation.spaces import noise


def drawn(rows=500, classes=6, sharpness=2.0, seed=0):
    """Logits, and labels drawn with just their probabilities."""
    logits = sharpness * noise(rows, classes, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1000)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return logits, labels


def naive_error(probabilities, labels, bins):
    """In percent; picture by picture."""
    members = [[] for _ in range(bins)]
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        sure = max(row)
        members[min(int(sure * bins), bins - 1)].append((sure, row.index(sure) == label))
    gaps = [abs(sum(s for s, _ in held) - sum(r for _, r in held)) for held in members if held]
    return 100 * sum(gaps) / len(labels)


@pytest.mark.parametrize("bins", [1, 2, 15, 100])
@pytest.mark.parametrize("sharpness", [0.1, 2.0, 20.0])
def test_the_error_is_a_naive_one(bins, sharpness):
    logits, labels = drawn()
    probabilities = (logits * sharpness).softmax(1)
    assert calibration_error(probabilities, labels, bins) == pytest.approx(
        naive_error(probabilities, labels, bins), abs=1e-9
    )


def test_the_error_is_that_of_torchmetrics():
    metrics = pytest.importorskip("torchmetrics.functional.classification", reason="compared where it is installed")
    for sharpness, bins in ((0.1, 15), (2.0, 15), (5.0, 10)):
        logits, labels = drawn(sharpness=sharpness)
        probabilities = logits.softmax(1)
        theirs = metrics.multiclass_calibration_error(probabilities, labels, num_classes=6, n_bins=bins)
        assert calibration_error(probabilities, labels, bins) == pytest.approx(100 * theirs.item(), abs=1e-4)


def test_full_confidence_is_in_the_last_bin():
    """torchmetrics has a bin of its own for it, above the last, so that gaps of 0.95 and 1 do not add up."""
    probabilities = torch.tensor([[1.0, 0.0], [0.95, 0.05]])
    table = reliability(probabilities, torch.tensor([0, 1]))
    assert len(table) == 15 and table["count"].tolist() == [0] * 14 + [2]
    assert calibration_error(probabilities, torch.tensor([0, 1])) == pytest.approx(100 * (1.95 - 1) / 2)


def test_the_bins_are_equal_and_empty_ones_say_nothing():
    table = reliability(torch.tensor([[0.5, 0.5], [0.25, 0.75]]), torch.tensor([0, 0]), bins=4)
    assert table["low"].tolist() == [0, 0.25, 0.5, 0.75] and table["high"].tolist() == [0.25, 0.5, 0.75, 1]
    assert table["count"].tolist() == [0, 0, 1, 1]
    assert table["accuracy"].tolist()[2:] == [1, 0] and table["confidence"].tolist()[2:] == [0.5, 0.75]
    assert table["accuracy"][:2].isna().all()


@pytest.mark.parametrize("temperature", [0.01, 0.3, 1.0, 50.0])
def test_the_temperature_that_the_labels_were_drawn_with_is_found(temperature):
    logits, labels = drawn(rows=20_000)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.03)
    assert fit_temperature(logits * temperature, labels, start=temperature * 7) == pytest.approx(temperature, rel=0.03)


def test_no_temperature_near_the_fitted_one_is_better():
    logits, labels = drawn(rows=200, seed=3)
    best = fit_temperature(logits, labels)
    losses = [cross_entropy(logits / (best * factor), labels) for factor in (0.99, 1.0, 1.01)]
    assert losses[1] <= min(losses)


def test_where_no_temperature_is_best_it_is_at_the_end_of_the_range():
    logits = torch.eye(3, dtype=torch.float64)
    assert fit_temperature(logits, torch.arange(3), start=2.0) < 0.1
    assert fit_temperature(logits, torch.tensor([1, 2, 0]), start=2.0) == pytest.approx(2e4)


def test_temperature_scaling_mends_what_is_too_sure_and_changes_no_prediction():
    logits, labels = drawn(rows=4000)
    found = calibrate(logits, labels, temperature=0.2)
    before, after = found.table.to_dict("records")
    assert before["temperature"] == 0.2 and after["temperature"] == pytest.approx(1, rel=0.1)
    assert before["ece"] > 20 > 4 > after["ece"] and before["nll"] > after["nll"]
    assert before["accuracy"] == after["accuracy"] and after["confidence"] == pytest.approx(after["accuracy"], abs=3)
    assert found.fitted_on == found.measured_on == 2000
    assert found.reliability.groupby("probabilities")["count"].sum().tolist() == [2000, 2000]


def test_what_is_measured_has_no_part_in_the_fit():
    logits, labels = drawn(rows=40)
    found = calibrate(logits, labels, 1.0)
    for row in range(40):
        changed = labels.clone()
        changed[row] = (labels[row] + 1) % 6
        other = calibrate(logits, changed, 1.0)
        fitted = [x.table["temperature"][1] for x in (found, other)]
        measured = [x.table["nll"][0] for x in (found, other)]
        assert (fitted[0] == fitted[1]) != (measured[0] == measured[1])


def test_of_a_model_it_is_that_of_its_similarities(model):
    pairs = load_pairs("scenes", "zeroshot", size=60)
    found = calibrate_zero_shot(model, pairs, 0.05)
    image = embed_images(model, pairs)
    prototypes = class_prototypes(model, pairs.class_names, pairs.templates)
    logits = zero_shot_logits(image, prototypes, model.geometry, 1 / 0.05)
    assert logits.shape == (60, 100) and torch.allclose(
        logits * 0.05, model.geometry.similarity(image, prototypes).double()
    )
    hits = (logits.argmax(1) == pairs.labels).double()
    assert 100 * hits.mean().item() == pytest.approx(zero_shot(image, prototypes, pairs.labels, model.geometry)["top1"])
    other = calibrate(logits, pairs.labels, 1.0)  # the same, with the scale in the logits
    assert found.table["ece"].tolist() == pytest.approx(other.table["ece"].tolist(), abs=0.01)
    assert found.table["temperature"][1] == pytest.approx(0.05 * other.table["temperature"][1], rel=1e-3)
    assert math.isfinite(found.table["nll"].sum())


def test_what_cannot_be_is_said(model):
    half = torch.full((3, 2), 0.5)
    for call, message in (
        (
            lambda: reliability(half, torch.zeros(2, dtype=torch.long)),
            r"probabilities \[N, C\] and labels \[N\], got \[3, 2\] and \[2\]",
        ),
        (lambda: reliability(half[:0], torch.zeros(0, dtype=torch.long)), r"got \[0, 2\]"),
        (
            lambda: reliability(half, torch.zeros(3, dtype=torch.long), bins=0),
            "bins must be a whole number of at least 1, got 0",
        ),
        (lambda: calibrate(half[:1], torch.zeros(1, dtype=torch.long), 1.0), "at least 2 labelled pictures"),
        (lambda: calibrate(half, torch.zeros(3, dtype=torch.long), 0.0), "temperature must be a number > 0, got 0.0"),
        (
            lambda: calibrate_zero_shot(model, load_pairs("scenes", "val", size=4), 0.1),
            "scenes/val has no named classes",
        ),
    ):
        with pytest.raises(ClipeduError, match=message):
            call()
