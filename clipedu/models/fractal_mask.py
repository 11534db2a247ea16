"""The fractal mask: which tokens of a ViT may attend to which.

A grid of n x n patches, n a power of a base k, gets *summary tokens* on levels of 1, k, k^2, ..., n/k tokens a side. A summary
token of a level with s a side stands for a square window of n/s x n/s patches; a patch stands for itself. In a sequence the
coarsest level comes first and the patches last, each level row by row:

    n = 4, k = 2:   g | s00 s01 s10 s11 | p00 p01 p02 p03 p10 ... p33          1 + 4 + 16 = 21 tokens

A query may attend to a key if one of two things holds:

    1. both are of the same level: all patches see each other, and so do all summary tokens of one level
    2. the window of one contains the window of the other, however many levels lie between them

So the mask is symmetric, every token sees itself, the token of the 1 x 1 level sees all and is seen by all, and after two
blocks every token can depend on every other. `True` means "may attend", as in `scaled_dot_product_attention` and timm;
`nn.MultiheadAttention` reads it the other way round.

Source: Chou, Kumar, Garg, "ViT Registers and Fractal ViT" (arXiv:2601.15506) and its code (repository EIFY/mup-vit, branch
fixed-fractal). There the mask does not improve on plain registers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clipedu.utils.errors import ClipeduError

LARGEST_GRID = 256  # that an error suggests


def summary_sides(grid: int, base: int) -> list[int]:
    """Return the tokens a side of each summary level, coarsest first.

    16, 4 -> [1, 4].

    Args:
        grid: n, patches a side; a power of `base`.
        base: k, at least 2.
    Raises:
        ClipeduError: no such power; says which bases fit this grid and which grids fit this base.
    """
    if base < 2:
        raise ClipeduError(f"base={base}: a window must be at least 2 x 2")
    sides, side = [], grid
    while side > 1 and side % base == 0:
        side //= base
        sides.append(side)
    if side != 1 or not sides:
        raise ClipeduError(
            f"a grid of {grid} x {grid} patches cannot carry windows of base {base}: {grid} is no power of {base}. "
            f"Bases that fit {grid}: {', '.join(map(str, bases_of(grid))) or 'none'}. "
            f"Grids that fit base {base}: {', '.join(map(str, grids_of(base)))}"
        )
    return sides[::-1]


def bases_of(grid: int) -> list[int]:
    """Return all bases that a grid is a power of: 16 -> [2, 4, 16].

    14 -> [14], one global token and a mask that is all ones.
    """
    return [base for base in range(2, grid + 1) if grid in grids_of(base, grid)]


def grids_of(base: int, largest: int = LARGEST_GRID) -> list[int]:
    """Return the powers of a base: 4 -> [4, 16, 64, 256]."""
    grids = [base]
    while grids[-1] * base <= largest:
        grids.append(grids[-1] * base)
    return grids


def tokens(sides: list[int]) -> Tensor:
    """Return each token's window, in the order of the sequence.

    Args:
        sides: tokens a side of every level, the patch grid last: [1, 2, 4].
    Returns:
        int64 [L, 3]: rows (size, top, left), in patches.
    """
    grid = sides[-1]
    levels = []
    for side in sides:
        size = grid // side
        row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        levels.append(torch.stack([torch.full_like(row, size), row * size, column * size], -1).flatten(0, 1))
    return torch.cat(levels)


def fractal_mask(grid: int, base: int) -> Tensor:
    """Return the fractal mask of a grid: bool [L, L], L = R + n^2.

    It is True where query (row) may attend to key (column).

    R = (n^2 - 1) / (k^2 - 1) summary tokens come first.

    Args:
        grid: n, patches a side.
        base: k, so that windows of one level hold k x k of the next.
    Raises:
        ClipeduError: n is not a power of k.
    """
    size, top, left = tokens([*summary_sides(grid, base), grid]).T
    larger = torch.maximum(size[:, None], size)
    nested = (top[:, None] // larger == top // larger) & (left[:, None] // larger == left // larger)
    return nested | (size[:, None] == size)
