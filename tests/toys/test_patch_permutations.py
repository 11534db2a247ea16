"""Orders of patches: each is what its name says, and what theory says of the mask is true of it."""

import pytest
import torch

from clipedu.models.fractal_mask import fractal_mask, summary_sides, tokens
from clipedu.toys.patch_permutations import LAYOUTS, keeps_windows, permutation, permute_tiles
from clipedu.utils.errors import ClipeduError


def rows(name, grid=4, base=2):
    return permutation(name, grid, base).view(grid, grid).tolist()


@pytest.mark.parametrize("grid, base", [(4, 2), (8, 2), (9, 3), (16, 4), (5, 5)])
def test_every_layout_has_each_patch_once(grid, base):
    for name in LAYOUTS:
        order = permutation(name, grid, base)
        assert order.dtype == torch.int64 and order.sort().values.tolist() == list(range(grid * grid)), name
        assert order.tolist() != list(range(grid * grid)) or (name, grid) == ("roll base", base), name


def test_layouts_without_chance_are_as_drawn_by_hand():
    assert rows("swap windows") == [[10, 11, 2, 3], [14, 15, 6, 7], [8, 9, 0, 1], [12, 13, 4, 5]]
    assert rows("mirror") == [[3, 2, 1, 0], [7, 6, 5, 4], [11, 10, 9, 8], [15, 14, 13, 12]]
    assert rows("rotate") == [[3, 7, 11, 15], [2, 6, 10, 14], [1, 5, 9, 13], [0, 4, 8, 12]]
    assert rows("roll base") == [[2, 3, 0, 1], [6, 7, 4, 5], [10, 11, 8, 9], [14, 15, 12, 13]]
    assert rows("roll 1") == [[3, 0, 1, 2], [7, 4, 5, 6], [11, 8, 9, 10], [15, 12, 13, 14]]
    assert rows("swap windows", 8)[0] == [36, 37, 38, 39, 4, 5, 6, 7]  # the largest windows, here 4 x 4


def test_chance_is_seeded_and_leaves_the_global_state_alone():
    state = torch.get_rng_state()
    for name in ("random", "inside windows"):
        first = permutation(name, 8, 2, seed=3)
        assert torch.equal(first, permutation(name, 8, 2, seed=3))
        assert not torch.equal(first, permutation(name, 8, 2, seed=4))
    assert torch.equal(state, torch.get_rng_state())
    window = permutation("inside windows", 4, 2).view(4, 4)[2:, :2]
    assert sorted(window.flatten().tolist()) == [8, 9, 12, 13]


def expected(name, grid, base):
    """(windows stay windows, every patch stays in its window), from the definitions in `clipedu.toys.patch_permutations`."""
    two_levels = grid <= base * base
    kept = name in ("inside windows", "swap windows", "mirror", "rotate") or (name == "roll base" and two_levels)
    return kept, name == "inside windows"


@pytest.mark.parametrize("grid, base", [(4, 2), (8, 2), (9, 3), (16, 4)])
def test_which_layouts_keep_windows(grid, base):
    for name in LAYOUTS:
        order = permutation(name, grid, base)
        assert (keeps_windows(order, grid, base), keeps_windows(order, grid, base, in_place=True)) == expected(
            name, grid, base
        ), name


@pytest.mark.parametrize("grid, base", [(4, 2), (8, 2), (9, 3)])
def test_windows_are_kept_where_the_mask_is(grid, base):
    """In place: the mask itself is as before. Else: as before once each summary token goes where its patches went."""
    mask, summary = fractal_mask(grid, base), sum(side * side for side in summary_sides(grid, base))
    for name in LAYOUTS:
        order = permutation(name, grid, base)
        whole = torch.cat([torch.arange(summary), summary + order])
        assert torch.equal(mask[whole][:, whole], mask) == keeps_windows(order, grid, base, in_place=True), name
        windows = mask[:summary, summary:]
        # the windows as sets of patches, level by level: are those of the moved patches the same sets?
        size = tokens([*summary_sides(grid, base), grid])[:summary, 0].tolist()
        before = {(s, *window) for s, window in zip(size, windows.tolist(), strict=True)}
        after = {(s, *window) for s, window in zip(size, windows[:, order].tolist(), strict=True)}
        assert (before == after) == keeps_windows(order, grid, base), name


def test_tiles_move_whole():
    pixels = torch.arange(2 * 3 * 8 * 8).view(2, 3, 8, 8)
    order = permutation("random", 4, 2)
    moved = permute_tiles(pixels, order, 2)
    assert moved.shape == pixels.shape
    for place, old in enumerate(order.tolist()):
        (row, column), (old_row, old_column) = divmod(place, 4), divmod(old, 4)
        assert torch.equal(
            moved[..., 2 * row : 2 * row + 2, 2 * column : 2 * column + 2],
            pixels[..., 2 * old_row : 2 * old_row + 2, 2 * old_column : 2 * old_column + 2],
        )
    assert torch.equal(permute_tiles(moved, order.argsort(), 2), pixels)
    assert torch.equal(permute_tiles(pixels[0, 0], order, 2), moved[0, 0])
    assert torch.equal(permute_tiles(pixels, permutation("mirror", 8, 2), 1), pixels.flip(-1))


def test_what_cannot_work_is_told():
    with pytest.raises(ClipeduError, match="unknown layout 'mirrors'. Did you mean 'mirror'"):
        permutation("mirrors", 4, 2)
    for make in (lambda: permutation("mirror", 14, 2), lambda: keeps_windows(torch.arange(196), 14, 2)):
        with pytest.raises(ClipeduError, match="Bases that fit 14: 14"):
            make()
    order = permutation("mirror", 4, 2)
    for shape, patch_size in (((3, 8, 12), 2), ((3, 9, 9), 2), ((3, 8, 8), 4)):
        with pytest.raises(
            ClipeduError, match=f"{shape[1]} x {shape[2]} pixels with patch_size={patch_size}.*16 patches"
        ):
            permute_tiles(torch.zeros(shape), order, patch_size)
