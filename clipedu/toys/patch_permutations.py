"""Permutations of patches, and which of them a vision transformer notices.

A *permutation* is an index tensor [n^2] over the patches of an n x n grid, row by row: the patch at place i of the new
picture is patch permutation[i] of the old one. Whole patches move; what is in them is not turned.

What theory says of the mean over patches, for a model of base k without position code:

    no extra tokens, or registers             no permutation changes the answer
    fractal mask, summary tokens all alike    those that map windows to windows, on every level, leave it as it is: mirrored,
                                              rotated, windows swapped. `keeps_windows` recognises them
    fractal mask, learned summary tokens      only those that leave every patch in its window
"""

from __future__ import annotations

import torch
from torch import Tensor

from clipedu.models.fractal_mask import summary_sides
from clipedu.utils.errors import ClipeduError, unknown_name
from clipedu.utils.seeding import seeded

LAYOUTS = {
    "random": "any order",
    "inside windows": "shuffled inside each of the smallest windows",
    "swap windows": "the first and the last of the k x k largest windows change places",
    "mirror": "columns in reverse order",
    "rotate": "the grid turned by 90 degrees, to the left",
    "roll base": "columns moved by k, those that fall out on the right come in on the left",
    "roll 1": "columns moved by one, likewise",
}


def permutation(name: str, grid: int, base: int, seed: int = 0) -> Tensor:
    """Return the permutation of a layout: int64 [n^2].

    Args:
        name: see `LAYOUTS`.
        grid: n, patches a side; a power of `base`.
        base: k, patches a side of the smallest windows.
        seed: of "random" and "inside windows"; the others have no chance in them.
    Raises:
        ClipeduError: an unknown layout, or a grid that cannot carry the windows.
    """
    if name not in LAYOUTS:
        raise unknown_name("layout", name, LAYOUTS)
    summary_sides(grid, base)
    places = torch.arange(grid * grid).view(grid, grid)
    large = grid // base
    if name == "random":
        places = torch.randperm(grid * grid, generator=seeded(seed))
    elif name == "inside windows":
        windows = places.view(large, base, large, base).transpose(1, 2).reshape(-1, base * base)
        order = torch.rand(windows.shape, generator=seeded(seed)).argsort(1)
        windows = windows.gather(1, order).view(large, large, base, base)
        places = windows.transpose(1, 2)
    elif name == "swap windows":
        places = places.clone()
        first, last = places[:large, :large].clone(), places[-large:, -large:].clone()
        places[:large, :large], places[-large:, -large:] = last, first
    elif name == "mirror":
        places = places.flip(1)
    elif name == "rotate":
        places = places.rot90()
    else:
        places = places.roll(base if name == "roll base" else 1, 1)
    return places.reshape(-1)


def permute_tiles(pixels: Tensor, permutation: Tensor, patch_size: int) -> Tensor:
    """Permute the patches of pictures.

    Args:
        pixels: [..., n * patch_size, n * patch_size]; the same shape is returned.
        permutation: int64 [n^2].
        patch_size: pixels a side of a patch.
    Raises:
        ClipeduError: pictures that are not n x n patches of this size.
    """
    height, width = pixels.shape[-2:]
    grid = height // patch_size
    if height != width or height % patch_size or len(permutation) != grid * grid:
        raise ClipeduError(
            f"pictures of {height} x {width} pixels with patch_size={patch_size} do not go with a permutation of "
            f"{len(permutation)} patches: give n x n of them, in pictures of n * patch_size pixels a side"
        )
    tiles = pixels.unflatten(-1, (grid, patch_size)).unflatten(-3, (grid, patch_size)).transpose(-3, -2)
    tiles = tiles.flatten(-4, -3)[..., permutation, :, :].unflatten(-3, (grid, grid))
    return tiles.transpose(-3, -2).flatten(-2).flatten(-3, -2)


def keeps_windows(permutation: Tensor, grid: int, base: int, in_place: bool = False) -> bool:
    """Return whether patches that share a window still do, on all levels.

    With R summary tokens ((k^2)!)^R permutations pass, and ((k^2)!)^(n^2/k^2) with `in_place`: for n = 4, k = 2 about
    8 million and 331,776 of 2 * 10^13.

    Args:
        permutation: int64 [n^2].
        grid: n, patches a side; a power of `base`.
        base: k, patches a side of the smallest windows.
        in_place: it must be the same window as before.
    Raises:
        ClipeduError: a grid that cannot carry windows of this base.
    """
    row, column = torch.arange(grid * grid) // grid, torch.arange(grid * grid) % grid
    for side in summary_sides(grid, base):
        size = grid // side
        window = row // size * side + column // size
        moved = window[permutation]
        if in_place and not torch.equal(moved, window):
            return False
        if len(torch.stack([window, moved], 1).unique(dim=0)) != side * side:
            return False
    return True
