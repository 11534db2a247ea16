"""Position encodings that timm's VisionTransformer lacks.

sincos2d   a code is added to each patch: sines and cosines of its column x and row y at d/4 frequencies w
           [sin(x w), cos(x w), sin(y w), cos(y w)],   w_i = 10000^(-i / (d/4 - 1))
           (big_vision's `posemb_sincos_2d`; Beyer et al. 2022, arXiv:2205.01580)
alibi      nothing is added to a patch; attention from one token to another is lowered by their distance
           score - slope_h * ||(row, column) - (row', column')||, the slope another in each head
           (Press et al. 2022, arXiv:2108.12409; in 2D: CROMA, Fuller et al. 2023, arXiv:2311.00566)
"""

from __future__ import annotations

import torch
from torch import Tensor

from clipedu.utils.errors import ClipeduError


def sincos2d(side: int, dim: int) -> Tensor:
    """Return codes of a grid of places, row by row: float64 [side^2, dim].

    Coordinates are 0, 1, ..., side - 1.

    Args:
        side: places a side.
        dim: width of the codes.
    Raises:
        ClipeduError: `dim` is no multiple of 4, or less than 8.
    """
    if dim % 4 or dim < 8:
        raise ClipeduError(f"sincos2d codes need a width that is a multiple of 4 and at least 8, not {dim}")
    frequencies = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4 - 1))
    row, column = _places(side).T
    x, y = column[:, None] * frequencies, row[:, None] * frequencies
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], 1)


def alibi_slopes(heads: int) -> Tensor:
    """Return one slope a head, float64 [heads].

    For a power of two they are 2^(-8/H), 2^(-16/H), ...

    For other numbers it is the list of the next lower power of two, filled up with every second slope of the list for
    twice that.
    """
    lower = 1 << (heads.bit_length() - 1)
    slopes = 2.0 ** (-8.0 / lower * torch.arange(1, lower + 1, dtype=torch.float64))
    return slopes if lower == heads else torch.cat([slopes, alibi_slopes(2 * lower)[::2][: heads - lower]])


def alibi_bias(sides: list[int], heads: int, registers: int = 0) -> Tensor:
    """Return the bias that 2D ALiBi adds to attention scores.

    It is float64 [heads, L, L], L = registers + sum of side^2.

    Distances are in places of a level; between two levels, and to and from registers, the bias is 0.

    Args:
        sides: places a side of every level of tokens, coarsest first, the patch grid last.
        heads: of the attention.
        registers: tokens before all levels.
    """
    distances = [torch.cdist(_places(side), _places(side)) for side in sides]
    distance = torch.block_diag(torch.zeros(registers, registers, dtype=torch.float64), *distances)
    return -alibi_slopes(heads)[:, None, None] * distance


def _places(side: int) -> Tensor:
    """Return (row, column) of every place of a grid: float64 [side^2, 2]."""
    along = torch.arange(side, dtype=torch.float64)
    return torch.cartesian_prod(along, along)
