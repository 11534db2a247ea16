"""The toy tasks: samples are what their labels say, chance is chance, and the mask makes the difference that theory predicts."""

import pytest
import torch

from clipedu.toys.window_tasks import TASKS, accuracy_after_training, quadrant, same_window
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import NotFinite

DRAW = {"same window": same_window, "quadrant": quadrant}


def marks(pixels):
    """(row, column) of the marked pixels of each picture, from its first channel."""
    return [torch.nonzero(picture[0] > 0.5).tolist() for picture in pixels]


@pytest.mark.parametrize("task", TASKS)
def test_pixels_are_marks_and_noise(task):
    pixels, labels = DRAW[task](2000, seed=0)
    assert pixels.shape == (2000, 4, 4, 4) and pixels.dtype == torch.float32 and labels.dtype == torch.int64
    mark = (pixels[:, 0] > 0.5).float()
    assert mark.sum((1, 2)).unique().tolist() == [2 if task == "same window" else 1]
    noise = pixels - torch.stack([mark, 1 - mark, 0 * mark, 0 * mark], 1)
    assert noise.std().item() == pytest.approx(0.05, rel=0.02) and abs(noise.mean().item()) < 1e-3
    assert labels.bincount().tolist() == [2000 // TASKS[task].classes] * TASKS[task].classes


def test_same_window_is_true_of_the_marks():
    pixels, labels = same_window(500, seed=1)
    for ((row, column), (other_row, other_column)), label in zip(marks(pixels), labels.tolist(), strict=True):
        assert label == ((row // 2, column // 2) == (other_row // 2, other_column // 2))


def test_quadrant_is_that_of_the_mark():
    pixels, labels = quadrant(500, seed=1)
    for ((row, column),), label in zip(marks(pixels), labels.tolist(), strict=True):
        assert label == 2 * (row // 2) + column // 2


def test_all_pairs_of_a_label_are_equally_likely():
    """24 pairs lie in one window, 96 in two: no patch and no distance gives a label away beyond what it must."""
    pixels, labels = same_window(48_000, seed=2)
    places = (pixels[:, 0] > 0.5).flatten(1).nonzero()[:, 1].view(-1, 2)
    pairs = 16 * places[:, 0] + places[:, 1]
    for label, number in ((1, 24), (0, 96)):
        counts = pairs[labels == label].unique(return_counts=True)[1]
        assert len(counts) == number
        expected = 24_000 / number
        assert (counts - expected).abs().max() < 5 * expected**0.5


@pytest.mark.parametrize("task", TASKS)
def test_samples_are_seeded_and_the_global_state_is_left_alone(task):
    state = torch.get_rng_state()
    first, again, other = (DRAW[task](64, seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    accuracy = accuracy_after_training(task, steps=1)
    assert accuracy_after_training(task, steps=1) == accuracy
    assert torch.equal(state, torch.get_rng_state())


def test_the_mask_tells_which_patches_belong_together():
    """With it 60 steps are enough for five seeds of five; without it no training could do better than chance."""
    for extra, steps, expected in (("none", 40, 0.5), ("registers", 40, 0.5), ("fractal", 100, 1.0)):
        accuracy = accuracy_after_training("same window", extra=extra, steps=steps)
        assert accuracy == pytest.approx(expected, abs=0.04), extra  # five standard errors of chance


def test_what_cannot_work_is_told():
    with pytest.raises(ClipeduError, match="unknown task 'quadrants'. Did you mean 'quadrant'"):
        accuracy_after_training("quadrants")
    with pytest.raises(ClipeduError, match="steps=0"):
        accuracy_after_training("quadrant", steps=0)
    with pytest.raises(ClipeduError, match="needs summary tokens"):
        accuracy_after_training("quadrant", extra="registers", summary="zero")


def test_a_model_that_diverged_has_no_accuracy():
    with pytest.raises(NotFinite, match=r"the weight .* of the transformer is not finite after 2 steps \(lr "):
        accuracy_after_training("quadrant", steps=2, lr=1e30)
    for lr in (float("inf"), float("nan"), -1.0):
        with pytest.raises(ClipeduError, match=f"lr must be a number >= 0, got {lr}"):
            accuracy_after_training("quadrant", steps=2, lr=lr)
