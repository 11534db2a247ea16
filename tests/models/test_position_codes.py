"""Sin-cos codes and ALiBi: check values, the formulas typed out, laws."""

from __future__ import annotations

import math

import pytest
import torch

from clipedu.models.position_codes import alibi_bias, alibi_slopes, sincos2d
from clipedu.utils.errors import ClipeduError


def test_check_value():
    code = sincos2d(4, 8)[1 * 4 + 2]  # row 1, column 2
    assert code.tolist() == pytest.approx([0.9093, 0.0002, -0.4161, 1.0, 0.8415, 0.0001, 0.5403, 1.0], abs=5e-5)


def test_codes_typed_out():
    codes, quarter = sincos2d(5, 16), 4
    for row in range(5):
        for column in range(5):
            w = [10000 ** (-i / (quarter - 1)) for i in range(quarter)]
            expected = [f(place * v) for place in (column, row) for f in (math.sin, math.cos) for v in w]
            assert codes[5 * row + column].tolist() == pytest.approx(expected, abs=1e-12)


def test_a_summary_token_begins_as_the_patch_of_its_own_row_and_column():
    """Coordinates count the places of a level: they are not rescaled to the picture."""
    small, large = sincos2d(2, 16), sincos2d(4, 16)
    assert torch.equal(small, large[[0, 1, 4, 5]])
    assert torch.equal(sincos2d(1, 16)[0], large[0])


@pytest.mark.parametrize("dim", [6, 4, 10])
def test_widths_that_do_not_fit(dim):
    with pytest.raises(ClipeduError, match=f"multiple of 4 and at least 8, not {dim}"):
        sincos2d(4, dim)


@pytest.mark.parametrize(
    "heads, slopes",
    [
        (4, [1 / 4, 1 / 16, 1 / 64, 1 / 256]),
        (6, [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8]),
        (3, [1 / 16, 1 / 256, 1 / 4]),
        (1, [1 / 256]),
        (8, [2.0**-k for k in range(1, 9)]),
    ],
)
def test_slopes(heads, slopes):
    assert alibi_slopes(heads).tolist() == slopes


def test_bias_typed_out():
    bias = alibi_bias([1, 2, 4], heads=4, registers=0)
    assert bias.shape == (4, 21, 21)
    level = [1] + [2] * 4 + [4] * 16
    place = [(r, c) for side in (1, 2, 4) for r in range(side) for c in range(side)]
    for i in range(21):
        for j in range(21):
            expected = math.dist(place[i], place[j]) if level[i] == level[j] else 0.0
            assert bias[:, i, j].tolist() == pytest.approx([-s * expected for s in (1 / 4, 1 / 16, 1 / 64, 1 / 256)])


def test_registers_have_no_bias():
    bias = alibi_bias([3], heads=2, registers=5)
    assert bias.shape == (2, 14, 14) and not bias[:, :5].any() and not bias[:, :, :5].any()
    assert torch.equal(bias[:, 5:, 5:], alibi_bias([3], heads=2))
