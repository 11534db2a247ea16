"""The fractal mask: the oracle table, the rule typed out with sets, laws, and what is told of grids that cannot carry it."""

from __future__ import annotations

import hashlib
import re

import pytest
import torch

from clipedu.models.fractal_mask import bases_of, fractal_mask, grids_of, summary_sides, tokens
from clipedu.utils.errors import ClipeduError

# 4 x 4 patches, windows of 2 x 2: global token, four summary tokens, four rows of patches.
ROWS = """
g   1 1111 1111 1111 1111 1111
s00 1 1111 1100 1100 0000 0000
s01 1 1111 0011 0011 0000 0000
s10 1 1111 0000 0000 1100 1100
s11 1 1111 0000 0000 0011 0011
p00 1 1000 1111 1111 1111 1111
p02 1 0100 1111 1111 1111 1111
p20 1 0010 1111 1111 1111 1111
p22 1 0001 1111 1111 1111 1111
"""
GRIDS = [(4, 2), (8, 2), (9, 3), (16, 4), (16, 2), (16, 16), (27, 3)]
each_grid = pytest.mark.parametrize("grid, base", GRIDS)


def bits(mask: torch.Tensor) -> str:
    return "".join(map(str, mask.int().flatten().tolist()))


def test_oracle_table_of_21_tokens():
    row_of = {name: [c == "1" for c in row.replace(" ", "")] for name, row in re.findall(r"(\S+) ([01 ]+)", ROWS)}
    names = ["g", "s00", "s01", "s10", "s11"]
    names += [f"p{2 * (r // 2)}{2 * (c // 2)}" for r in range(4) for c in range(4)]  # a patch sees what its window sees
    assert fractal_mask(4, 2).tolist() == [row_of[name] for name in names]
    assert hashlib.sha256(bits(fractal_mask(4, 2)).encode()).hexdigest() == (
        "c20e59a305d6681c735f268ac1b982a4576bd911086d08b884f0118cf02f4c5d"
    )


@pytest.mark.parametrize(
    "grid, base, count, allowed, sums, digest",
    [
        (16, 4, 273, 66_849, (273, 33, 258), "0a75ac3819239dc6"),
        (16, 2, 341, 72_409, (341, 89, 260), "03c960da70bd2b18"),
        (8, 2, 85, 4_825, (85, 25, 67), "f1c8566791f9882b"),
        (9, 3, 91, 6_985, (91, 19, 83), "98e0c404b4084ebb"),
    ],
)
def test_larger_grids(grid, base, count, allowed, sums, digest):
    mask = fractal_mask(grid, base)
    assert mask.shape == (count, count) and mask.sum() == allowed
    assert tuple(mask.sum(1)[[0, 1, -1]].tolist()) == sums
    assert hashlib.sha256(bits(mask).encode()).hexdigest()[:16] == digest


@each_grid
def test_rule_typed_out_with_sets_of_patches(grid, base):
    """Two tokens may attend to each other if they are of one level, or the patches of one are among those of the other."""
    windows, level = [], []
    for side in [*summary_sides(grid, base), grid]:
        for r in range(side):
            for c in range(side):
                size = grid // side
                windows.append(frozenset((r * size + i, c * size + j) for i in range(size) for j in range(size)))
                level.append(side)
    mask = fractal_mask(grid, base)
    assert len(mask) == len(windows)
    chosen = torch.randperm(len(mask), generator=torch.Generator().manual_seed(0))[:60].tolist()
    for i in chosen:
        expected = [
            level[i] == level[j] or windows[i] <= windows[j] or windows[j] <= windows[i] for j in range(len(mask))
        ]
        assert mask[i].tolist() == expected


@each_grid
def test_laws(grid, base):
    mask = fractal_mask(grid, base)
    assert mask.dtype == torch.bool and torch.equal(mask, mask.T) and mask.diagonal().all()
    assert mask[0].all()  # the global token
    assert (mask.float() @ mask.float() > 0).all()  # after two blocks everything depends on everything
    levels = len(summary_sides(grid, base))
    assert len(mask) == (grid**2 - 1) // (base**2 - 1) + grid**2
    pairs = sum(base ** (4 * m) for m in range(levels + 1)) + 2 * sum(m * base ** (2 * m) for m in range(levels + 1))
    assert mask.sum() == pairs


def test_share_of_allowed_pairs():
    shares = [fractal_mask(grid, base).float().mean().item() for grid, base in [(4, 2), (8, 2), (16, 4), (16, 2)]]
    assert shares == pytest.approx([0.782, 0.668, 0.897, 0.623], abs=5e-4)
    assert fractal_mask(16, 16).all() and fractal_mask(14, 14).all()


def test_pattern_between_neighbouring_levels_is_the_same_one_scale_up():
    """Summary tokens of 2 x 2 against those of 4 x 4 are as those of 4 x 4 in a grid of half the size are against its patches."""
    large, small = fractal_mask(8, 2), fractal_mask(4, 2)
    assert torch.equal(large[1:5, 5:21], small[1:5, 5:21])
    assert torch.equal(large[5:21, 21:].view(16, 8, 8)[:, ::2, ::2].flatten(1), torch.eye(16, dtype=torch.bool))


def test_sides_and_tokens():
    assert summary_sides(16, 4) == [1, 4] and summary_sides(16, 2) == [1, 2, 4, 8] and summary_sides(9, 3) == [1, 3]
    assert tokens([1, 2, 4])[:6].tolist() == [[4, 0, 0], [2, 0, 0], [2, 0, 2], [2, 2, 0], [2, 2, 2], [1, 0, 0]]
    assert tokens([1, 2, 4])[-1].tolist() == [1, 3, 3]


def test_bases_and_grids():
    assert [bases_of(n) for n in (14, 16, 27, 36, 1)] == [[14], [2, 4, 16], [3, 27], [6, 36], []]
    assert grids_of(4) == [4, 16, 64, 256] and grids_of(3, 10) == [3, 9]
    for grid in range(2, 40):
        for base in bases_of(grid):
            assert summary_sides(grid, base)


@pytest.mark.parametrize("grid, base", [(14, 7), (16, 8), (14, 2), (14, 3), (14, 4), (16, 3), (1, 2), (2, 4), (12, 2)])
def test_grids_that_do_not_nest_are_refused_with_a_way_out(grid, base):
    with pytest.raises(ClipeduError) as caught:
        fractal_mask(grid, base)
    message = str(caught.value)
    assert f"a grid of {grid} x {grid} patches cannot carry windows of base {base}" in message
    assert f"Bases that fit {grid}: {', '.join(map(str, bases_of(grid))) or 'none'}." in message
    assert f"Grids that fit base {base}: {base}, {base**2}" in message


@pytest.mark.parametrize("base", [1, 0, -2])
def test_base_too_small(base):
    with pytest.raises(ClipeduError, match=f"base={base}: a window must be at least 2 x 2"):
        fractal_mask(4, base)
