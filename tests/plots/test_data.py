"""Figures of data: they show the pixels, captions and numbers that they were given."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from clipedu.data.augment import AUGMENTATIONS, OPERATIONS, augment, operate
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.survey import LINK_ROT, sampling_error
from clipedu.plots import data as plots
from clipedu.plots.style import to_png
from clipedu.utils.errors import ClipeduError


@pytest.fixture(scope="module")
def scenes():
    return Scenes("train", 20, 32)


def titles(figure) -> list[str]:
    return [" ".join(ax.get_title().split()) for ax in figure.axes]


def pictures(figure) -> list[np.ndarray]:
    return [np.asarray(ax.get_images()[0].get_array()) for ax in figure.axes]


def uint8(pixels: torch.Tensor) -> np.ndarray:
    return pixels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def test_pairs_are_shown_with_their_captions(scenes):
    figure = plots.show_pairs(scenes, [3, 0, 5, 7, 8, 9, 11])
    assert len(figure.axes) == 7 and to_png(figure).startswith(b"\x89PNG")
    for row, picture, title in zip([3, 0, 5, 7, 8, 9, 11], pictures(figure), titles(figure), strict=True):
        assert (
            np.array_equal(picture, uint8(scenes.pixels(torch.tensor([row]))[0])) and title == scenes.captions(row)[0]
        )
    with pytest.raises(ClipeduError, match="at least one"):
        plots.show_pairs(scenes, [])


def test_labelled_pictures_have_no_caption():
    assert titles(plots.show_pairs(Scenes("zeroshot", 3, 32), [2])) == ["row 2"]


def test_lengths_are_shares_of_captions():
    figure = plots.plot_lengths({"one": ["a dog", "a cat", "a b c d"], "two": ["x"]})
    first, second = (patch.get_data() for patch in figure.axes[0].patches)
    shares = dict(zip((first.edges[:-1] + 0.5).astype(int).tolist(), first.values.tolist(), strict=True))
    assert shares[2] == pytest.approx(200 / 3) and shares[4] == pytest.approx(100 / 3) and shares[3] == 0
    assert second.values[1] == 100
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels[0] == "one: median 2, from 2 to 4"


def test_ranks_are_in_order_of_frequency():
    figure = plots.plot_rank_frequency({"set": Counter({"rare": 1, "a": 6, "dog": 3})})
    line = figure.axes[0].get_lines()[0]
    assert line.get_xdata().tolist() == [1, 2, 3] and line.get_ydata().tolist() == [60, 30, 10]
    assert [text.get_text() for text in figure.axes[0].texts] == ["a"]
    assert "3 words, 1 of them once" in figure.axes[0].get_legend().get_texts()[0].get_text()


def test_copies_stand_one_above_the_other(scenes):
    figure = plots.show_copies(scenes, [(0, 5), (2, 7), (1, 3)], most=2)
    assert [title.split()[1] for title in titles(figure)] == ["0", "2", "5", "7"]
    assert np.array_equal(pictures(figure)[3], uint8(scenes.pixels(torch.tensor([7]))[0]))
    with pytest.raises(ClipeduError, match="allow more bits"):
        plots.show_copies(scenes, [])


def test_curves_of_dead_links_go_through_the_observations():
    ax = plots.plot_link_rot().axes[0]
    curves = [line for line in ax.get_lines() if len(line.get_xdata()) == 100]
    for rot, curve in zip(LINK_ROT, curves, strict=True):
        assert np.interp(rot.years, curve.get_xdata(), curve.get_ydata()) == pytest.approx(
            100 * (1 - rot.lost), abs=0.1
        )


def test_words_of_a_sample_lie_where_they_were_counted():
    captions = ["common a"] * 60 + ["common b"] * 35 + ["c"] * 5
    ax = plots.plot_sampling(captions, 40).axes[0]
    x, ratio = ax.get_lines()[0].get_data()
    drawn = [captions[place] for place in np.random.default_rng(0).permutation(100)[:40]]
    expected = {95: "common", 60: "a", 35: "b", 5: "c"}
    assert sorted(np.round(x).astype(int).tolist()) == sorted(expected)
    for share, value in zip(np.round(x).astype(int).tolist(), ratio, strict=True):
        count = sum(expected[share] in caption.split() for caption in drawn)
        assert value == pytest.approx(count / 40 / (share / 100))
    (band,) = ax.collections
    top = max(band.get_paths()[0].vertices[:, 1])
    assert top == pytest.approx(1 + 2 * sampling_error(0.05, 40, 100))
    for sample in (0, 100):
        with pytest.raises(ClipeduError, match=f"sample={sample} "):
            plots.plot_sampling(captions, sample)


def test_operations_are_shown_as_they_are(scenes):
    picture = scenes.pixels(torch.tensor([4]))[0]
    figure = plots.show_operations(picture)
    shown = dict(zip(titles(figure), pictures(figure), strict=True))
    assert len(shown) == 1 + 4 + 2 * 5 and {title.rstrip(" +-") for title in shown} == {"as it is", *OPERATIONS} - {
        "identity"
    }
    assert np.array_equal(shown["rotate -"], uint8(operate("rotate", picture[None], -1)[0]))
    assert np.array_equal(shown["equalize"], uint8(operate("equalize", picture[None])[0]))


def test_augmented_pictures_are_those_of_the_steps(scenes):
    picture = scenes.pixels(torch.tensor([4]))[0]
    figure = plots.show_augmented(picture, steps=3)
    shown = pictures(figure)
    assert len(shown) == 3 * 4
    for line, how in enumerate(AUGMENTATIONS[1:]):
        assert np.array_equal(shown[4 * line], uint8(picture))
        for step in range(3):
            expected = uint8(augment(picture[None], how, seed=0, step=step)[0])
            assert np.array_equal(shown[4 * line + 1 + step], expected)


def test_mirror_images_with_their_verdicts(scenes):
    figure = plots.show_mirrored(scenes, [1, 6], [True, False])
    assert [title.split(":")[0] for title in titles(figure)] == ["FALSE", "still true"]
    assert np.array_equal(pictures(figure)[0], uint8(scenes.pixels(torch.tensor([1]))[0])[:, ::-1])
