"""Matrices of pairs show the similarities and weights that were given."""

import numpy as np
import pytest
import torch

from clipedu.plots import pair_weights
from clipedu.toys.similarity_batch import examine, scene_batch, similarity_losses
from clipedu.utils.errors import ClipeduError
from tests.helpers.figures import drawn, words

BATCH = scene_batch(32)
S = BATCH.similarity
DIAGONAL = [(row, row) for row in range(8)]


def shown(ax, number=0):
    return np.asarray(ax.images[number].get_array())


def squares(ax):
    """Centres of the black squares."""
    return sorted(
        (round(p.get_x() + 0.47), round(p.get_y() + 0.47)) for p in ax.patches if p.get_edgecolor()[:3] == (0, 0, 0)
    )


def test_the_batch_shows_pictures_numbers_and_captions():
    figure = pair_weights.plot_batch(BATCH)
    drawn(figure)
    ax = figure.axes[0]
    np.testing.assert_array_equal(shown(ax), S.numpy())
    np.testing.assert_array_equal(shown(ax, 1), np.concatenate([*BATCH.pixels.permute(0, 2, 3, 1).numpy()]))
    left, right, low, high = ax.images[1].get_extent()
    assert right < -0.5 and (low, high) == (7.5, -0.5)  # a picture beside each row, the first on top
    assert [label.get_text() for label in ax.get_xticklabels()] == list(BATCH.captions)
    assert squares(ax) == DIAGONAL and "0.80" in words(figure)


def test_weights_share_one_scale_with_blue_for_pull():
    maps = {name: examine(name, S, temperature=0.05).weights for name in similarity_losses()}
    figure = pair_weights.plot_weights(maps, BATCH)
    drawn(figure)
    panels = [ax for ax in figure.axes if ax.images]
    assert len(panels) == len(maps)
    for ax, (name, weights) in zip(panels, maps.items(), strict=True):
        np.testing.assert_allclose(shown(ax), (weights / weights.abs().sum()).numpy())
        assert ax.get_title().startswith(name) and f"{weights.abs().sum():.3g}" in ax.get_title()
        assert squares(ax) == DIAGONAL
        image, first = ax.images[0], panels[0].images[0]
        assert (image.norm.vmin, image.norm.vmax) == (first.norm.vmin, first.norm.vmax)
        assert image.norm.vmin == -image.norm.vmax
        pull, push = image.cmap(image.norm(-0.1)), image.cmap(image.norm(0.1))
        assert pull[2] > pull[0] + 0.2 and push[0] > push[2] + 0.2  # blue, red
        np.testing.assert_allclose(image.norm(0.0), 0.5)


def test_weights_without_names_or_with_one_map_or_none():
    drawn(pair_weights.plot_weights({"one": torch.eye(3).double()}))
    drawn(pair_weights.plot_weights({"nothing": torch.zeros(3, 3).double()}))
    with pytest.raises(ClipeduError, match="at least one"):
        pair_weights.plot_weights({})


def test_the_edited_batch_shows_s_w_and_the_sums_of_its_rows():
    weights = examine("cyclip", S, temperature=0.05).weights
    figure = pair_weights.plot_edited(BATCH, S, weights, (3, 5))
    drawn(figure)
    left, middle, right = [ax for ax in figure.axes if ax.get_title()]
    np.testing.assert_array_equal(shown(middle), weights.numpy())
    assert (left.lines[0].get_xdata()[0], left.lines[0].get_ydata()[0]) == (5, 3)  # column, row
    pull, push = (np.array([bar.get_width() for bar in right.patches[k : k + 8]]) for k in (0, 8))
    np.testing.assert_allclose(pull + push, weights.sum(1), atol=1e-12)
    np.testing.assert_allclose(push - pull, weights.abs().sum(1))
    assert right.get_ylim() == (7.5, -0.5)
    drawn(pair_weights.plot_edited(BATCH, S, torch.zeros_like(S), (0, 0)))


def test_a_dollar_in_a_name_is_no_formula():
    drawn(pair_weights.plot_weights({"$x": torch.eye(3).double(), "_y$": torch.eye(3).double()}))
