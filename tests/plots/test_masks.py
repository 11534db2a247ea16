"""Figures of the fractal mask: every cell has the colour of the rule that holds there, and every token its name."""

import re

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from clipedu.models.fractal_mask import fractal_mask
from clipedu.plots.masks import MEANINGS, SHADES, level_names, plot_mask, plot_who_sees, reach, token_at, token_name
from clipedu.utils.errors import ClipeduError
from tests.helpers.figures import drawn, words

GRIDS = [(4, 2), (8, 2), (9, 3), (16, 4), (27, 3)]


def shades(ax):
    """Which of `SHADES` each cell of a panel has."""
    image = np.asarray(ax.images[0].get_array())[..., :3]
    return np.abs(image[..., None, :] - np.array([to_rgb(shade) for shade in SHADES])).sum(-1).argmin(-1)


def frames(ax):
    """(left, top, width, height) of the rectangles without a filling."""
    return [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in ax.patches if not patch.get_fill()]


def test_reach_says_which_rule_holds():
    why = reach(4, 2)
    g, s01, s11, p03, p30 = (token_at(4, 2, *at) for at in (
        ("1 x 1",), ("2 x 2", 0, 1), ("2 x 2", 1, 1), ("patches", 0, 3), ("patches", 3, 0)
    ))  # fmt: skip
    assert (g, s01, s11, p03, p30) == (0, 2, 4, 8, 17)
    assert [why[s01, k].item() for k in (g, s01, s11, p03, p30)] == [2, 1, 1, 2, 0]
    assert [why[p03, k].item() for k in (g, s01, s11, p03, p30)] == [2, 2, 0, 1, 1]


@pytest.mark.parametrize("grid, base", GRIDS)
def test_reach_is_the_mask_and_after_two_blocks_everything(grid, base):
    mask = fractal_mask(grid, base)
    once, twice = reach(grid, base), reach(grid, base, blocks=2)
    assert torch.equal(once > 0, mask) and once.max() == 2
    assert torch.equal(once[mask], twice[mask]) and (twice[~mask] == 3).all()


@pytest.mark.parametrize("grid, base", GRIDS)
def test_places_and_names_go_there_and_back(grid, base):
    count = len(fractal_mask(grid, base))
    for token in {0, 1, 2, count // 3, count - 2, count - 1}:
        name = token_name(grid, base, token)
        if token == 0:
            assert name == "global token" and token_at(grid, base, "1 x 1") == 0
            continue
        level, row, column = re.fullmatch(r"(patch|\d+ x \d+)(?: token)? \((\d+), (\d+)\)", name).groups()
        level = "patches" if level == "patch" else level
        assert level in level_names(grid, base) and token_at(grid, base, level, int(row), int(column)) == token


def test_names_of_the_paper_s_grid():
    assert level_names(16, 4) == ["1 x 1", "4 x 4", "patches"]
    assert [token_name(16, 4, k) for k in (0, 1, 16, 17, 272)] == [
        "global token",
        "4 x 4 token (0, 0)",
        "4 x 4 token (3, 3)",
        "patch (0, 0)",
        "patch (15, 15)",
    ]


@pytest.mark.parametrize("grid, base", GRIDS)
def test_the_matrix_is_painted_by_rule(grid, base):
    figure = plot_mask(grid, base)
    drawn(figure)
    why = reach(grid, base)
    (ax,) = figure.axes
    assert np.array_equal(shades(ax), why) and frames(ax) == []
    assert ax.get_ylim() == (len(why), 0)  # the first query at the top
    texts = [text.get_text() for text in ax.texts]
    assert sorted(texts) == sorted(2 * level_names(grid, base))  # above and on the right
    assert f"{int((why > 0).sum()):,} of {len(why) ** 2:,} pairs may attend" in figure.get_suptitle()
    legend = {text.get_text() for text in figure.legends[0].texts}
    assert legend == set(MEANINGS[:3])


def test_matrix_names_each_token_where_they_are_few():
    ticks = [label.get_text() for label in plot_mask(4, 2).axes[0].get_yticklabels()]
    assert ticks[:7] == ["g", "s00", "s01", "s10", "s11", "p00", "p01"] and ticks[-1] == "p33" and len(ticks) == 21
    assert [label.get_text() for label in plot_mask(5, 5).axes[0].get_xticklabels()][:2] == ["g", "p00"]
    assert not plot_mask(8, 2).axes[0].get_yticklabels()


@pytest.mark.parametrize("grid, base, token", [(4, 2, 11), (27, 3, 40)])
def test_matrix_marks_the_row_of_a_token(grid, base, token):
    figure = plot_mask(grid, base, token)
    ((left, top, width, height),) = frames(figure.axes[0])
    count = len(fractal_mask(grid, base))
    assert left == 0 and width == count and top + height / 2 == pytest.approx(token + 0.5)
    assert height == 1 if grid == 4 else 2 < height < 0.02 * count
    assert token_name(grid, base, token) in figure.get_suptitle()


def test_levels_names_do_not_overlap():
    figure = plot_mask(32, 2)
    drawn(figure)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])


@pytest.mark.parametrize("grid, base", GRIDS)
def test_each_panel_shows_what_the_token_sees_there(grid, base):
    level = level_names(grid, base)[1]
    token = token_at(grid, base, level, 1, 0)
    figure = plot_who_sees(grid, base, token)
    drawn(figure)
    mask, why = fractal_mask(grid, base)[token], reach(grid, base)[token]
    start, size = 0, grid // base
    for name, ax in zip(level_names(grid, base), figure.axes, strict=True):
        side = grid if name == "patches" else int(name.split()[0])
        part = slice(start, start + side * side)
        assert np.array_equal(shades(ax), why[part].view(side, side)), name
        assert ax.get_title() == f"{name}: {int(mask[part].sum())} of {side * side}"
        assert frames(ax) == [(0, size, size, size)], name  # its window: row 1, column 0 of its level
        stars = [line for line in ax.lines if line.get_marker() == "*"]
        assert len(stars) == (name == level)
        if stars:
            assert stars[0].get_xydata().tolist() == [[size / 2, 1.5 * size]]
        start += side * side
    assert figure.get_suptitle() == f"{level} token (1, 0) sees {int(mask.sum())} of {len(mask)} tokens"


def test_small_grids_name_their_cells():
    assert "p12" in words(plot_who_sees(4, 2, 0)) and "s11" in words(plot_who_sees(4, 2, 0))
    assert "p12" not in words(plot_who_sees(8, 2, 0))


def test_after_two_blocks_the_rest_came_through_a_third():
    figure = plot_who_sees(8, 2, 40, blocks=2)
    assert "sees 85 of 85 tokens after 2 blocks" in figure.get_suptitle()
    assert 3 in shades(figure.axes[1]) and 0 not in shades(figure.axes[1])
    matrix = plot_mask(8, 2, blocks=2)
    assert np.array_equal(shades(matrix.axes[0]), reach(8, 2, 2))
    assert {text.get_text() for text in matrix.legends[0].texts} == set(MEANINGS[1:])
    assert "7,225 of 7,225 pairs are connected after 2 blocks" in matrix.get_suptitle()


def test_figures_fit_and_stay_within_a_notebook():
    for grid, base in [(2, 2), (14, 14), (4, 2), (32, 2)]:
        figure = plot_who_sees(grid, base, 0)
        drawn(figure)
        assert figure.get_figwidth() <= 11.5
        legend = figure.legends[0].get_window_extent()
        assert legend.x0 >= 0 and legend.x1 <= figure.bbox.x1, grid


def test_what_cannot_work_is_told():
    for make in (lambda: plot_mask(14, 2), lambda: plot_who_sees(14, 2, 0), lambda: token_at(14, 2, "patches")):
        with pytest.raises(ClipeduError, match="Bases that fit 14: 14"):
            make()
    for token in (-1, 21):
        with pytest.raises(ClipeduError, match=f"no token {token}: the sequence has 21, 0 to 20"):
            plot_mask(4, 2, token)
        with pytest.raises(ClipeduError, match=f"no token {token}"):
            plot_who_sees(4, 2, token)
    with pytest.raises(ClipeduError, match="unknown level '8 x 8'.*Allowed: 1 x 1, 2 x 2, patches"):
        token_at(4, 2, "8 x 8")
    with pytest.raises(ClipeduError, match=r"no \(2, 0\) on level '2 x 2': rows and columns are 0 to 1"):
        token_at(4, 2, "2 x 2", 2)
    for blocks in (0, 3):
        with pytest.raises(ClipeduError, match=f"blocks={blocks}"):
            plot_mask(4, 2, blocks=blocks)
