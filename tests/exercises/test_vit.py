"""Each check of 09_registers_and_fractal_vit about the model passes the right answer and names the famous errors."""

import math
import statistics

import pytest
import torch

from clipedu import exercises as ex
from clipedu.exercises.vit import is_symmetry, keeps_levels, named_layouts
from clipedu.models.fractal_mask import fractal_mask, summary_sides
from clipedu.models.vit import build_vit
from clipedu.toys.patch_permutations import keeps_windows, permute_tiles


def summary_tokens(grid, base):
    """By the closed form."""
    count = (grid**2 - 1) // (base**2 - 1)
    return count, count + grid**2


def block_macs(tokens, dim):
    """Matrix by matrix: rows x inner x columns."""
    linear = sum(tokens * d_in * d_out for d_in, d_out in [(dim, dim)] * 4 + [(dim, 4 * dim), (4 * dim, dim)])
    return linear + tokens * dim * tokens + tokens * tokens * dim


def macs(linear, pairs):
    return lambda n, d: linear * n * d**2 + pairs * n**2 * d


def place_code(row, column, dim):
    quarter = dim // 4
    w = [10000 ** (-i / (quarter - 1)) for i in range(quarter)]
    waves = [[f(p * x) for x in w] for p in (column, row) for f in (math.sin, math.cos)]
    return torch.tensor(sum(waves, []), dtype=torch.float64)


def code(w=lambda q: [10000 ** (-i / (q - 1)) for i in range(q)], shift=0, swap=False):
    """A code with other frequencies, or places."""

    def answer(row, column, dim):
        row, column = (column, row) if swap else (row, column)
        waves = [[f((p + shift) * x) for x in w(dim // 4)] for p in (column, row) for f in (math.sin, math.cos)]
        return torch.tensor(sum(waves, []), dtype=torch.float64)

    return answer


def by_q(q):
    return [10000 ** (-i / q) for i in range(q)]


def order(*parts):
    return lambda row, column, dim: torch.cat([place_code(row, column, dim).chunk(4)[k] for k in parts])


def unchanged(layout, grid, base):
    """By mates: with whom a patch shares a window of each size."""
    for size in [base**k for k in range(1, 10) if base**k <= grid]:
        window = [(p // grid // size, p % grid // size) for p in range(grid**2)]
        moved = [window[p] for p in layout.tolist()]
        if len(set(zip(window, moved, strict=True))) != len(set(window)):
            return False
    return True


def at_levels(pick):
    """Windows of some sizes only."""

    def answer(layout, grid, base):
        return all(keeps_levels(layout, grid, [side]) for side in pick(summary_sides(grid, base)))

    return answer


def paired_interval(new, old):
    """With the standard library, and a table."""
    difference = [a - b for a, b in zip(new.tolist(), old.tolist(), strict=True)]
    t = {3: 4.303, 5: 2.776}[len(difference)]
    return statistics.mean(difference), t * statistics.stdev(difference) / len(difference) ** 0.5


def half(change):
    """`paired_interval` with another half-width: change(n, differences, new, old)."""
    return lambda new, old: (paired_interval(new, old)[0], change(len(new), new - old, new, old))


def centre(change):
    return lambda new, old: (change(new, old), paired_interval(new, old)[1])


def quantile(n):
    return {3: 4.303, 5: 2.776}[n]


RIGHT = [
    (ex.check_block_macs, block_macs),
    (ex.check_place_code, place_code),
    (ex.check_place_code, lambda *x: place_code(*x).float()),
    (ex.check_unchanged, unchanged),
    (ex.check_unchanged, keeps_windows),
    (ex.check_paired_interval, paired_interval),
]


@pytest.mark.parametrize("check, answer", RIGHT)
def test_right_answers_pass(check, answer):
    verdict = check(answer)
    assert verdict.passed, verdict


def count(change):
    return lambda n, k: (change(n, k), summary_tokens(n, k)[1])


FAMOUS = [
    (ex.check_block_macs, lambda *x: 2 * block_macs(*x), "FLOPs"),
    (ex.check_block_macs, macs(12, 0), "N^2 d each"),
    (ex.check_block_macs, macs(12, 1), "two products"),
    (ex.check_block_macs, macs(12, 4), "not two times"),
    (ex.check_block_macs, lambda n, d: 12 * n * d**2 + 2 * n**2, "two vectors of d numbers"),
    (ex.check_block_macs, macs(11, 2), "fourth matrix"),
    (ex.check_block_macs, macs(10, 2), "three matrices"),
    (ex.check_block_macs, macs(9, 2), "four matrices"),
    (ex.check_block_macs, macs(8, 2), "a part of the linear layers"),
    (ex.check_block_macs, macs(6, 2), "four times as wide"),
    (ex.check_block_macs, macs(36, 2), "d x 4d and 4d x d"),
    (ex.check_block_macs, macs(4, 2), "attention alone"),
    (ex.check_block_macs, lambda n, d: 12 * d**2 + 2 * n**2 * d, "each of the N tokens"),
    (ex.check_block_macs, lambda n, d: str(n), "and it should be"),
    (ex.check_place_code, code(by_q), "i / (q - 1)"),
    (ex.check_place_code, code(swap=True), "they are swapped"),
    (ex.check_place_code, code(by_q, swap=True), "x is the column, and the exponent"),
    (ex.check_place_code, order(0, 2, 1, 3), "both of x"),
    (ex.check_place_code, order(2, 0, 3, 1), "timm's order"),
    (ex.check_place_code, order(1, 0, 3, 2), "sine comes first"),
    (
        ex.check_place_code,
        lambda *x: torch.stack(place_code(*x).chunk(4), 1).flatten(),
        "interleaved",
    ),
    (ex.check_place_code, code(shift=1), "count from 0"),
    (ex.check_place_code, code(lambda q: [10000 ** (i / (q - 1)) for i in range(q)]), "frequencies fall"),
    (ex.check_place_code, code(lambda q: [2 * math.pi * w for w in place_w(q)]), "2 pi"),
    (ex.check_place_code, code(lambda q: place_w(q)[::-1]), "the first frequency is 1"),
    (ex.check_place_code, lambda *x: place_code(*x) / 2, "number 0 (from 0)"),
    (ex.check_place_code, lambda r, c, d: place_code(r, c, 2 * d), "8 numbers, not [16]"),
    (ex.check_unchanged, lambda *x: True, "without a mask"),
    (ex.check_unchanged, lambda *x: False, "some layouts change nothing"),
    (ex.check_unchanged, lambda *x: not unchanged(*x), "turned round"),
    (ex.check_unchanged, lambda p, n, k: (p == torch.arange(n * n)).all(), "position codes"),
    (ex.check_unchanged, lambda *x: keeps_windows(*x, in_place=True), "all alike"),
    (
        ex.check_unchanged,
        lambda p, n, k: torch.equal(
            fractal_mask(n, k)[: -n * n, -n * n :], fractal_mask(n, k)[: -n * n, -n * n :][:, p]
        ),
        "all alike",
    ),
    (ex.check_unchanged, at_levels(lambda sides: sides[-1:]), "smallest windows alone"),
    (ex.check_unchanged, at_levels(lambda sides: sides[:2]), "largest windows alone"),
    (ex.check_unchanged, lambda p, n, k: is_symmetry(p, n, []), "not only mirroring"),
    (ex.check_unchanged, lambda p, n, k: unchanged(p, n, k) or n == 4, "and it should be False"),
    (ex.check_unchanged, lambda p, n, k: p, "True or False"),
    (ex.check_paired_interval, half(lambda n, d, *_: 1.96 * d.std() / n**0.5), "many seeds"),
    (
        ex.check_paired_interval,
        half(lambda n, d, a, b: 1.96 * ((a.var() + b.var()) / n) ** 0.5),
        "and the seeds are paired",
    ),
    (
        ex.check_paired_interval,
        half(lambda n, d, a, b: {3: 2.776, 5: 2.306}[n] * ((a.var() + b.var()) / n) ** 0.5),
        "unpaired runs",
    ),
    (
        ex.check_paired_interval,
        half(lambda n, d, a, b: quantile(n) * ((a.var() + b.var()) / n) ** 0.5),
        "not of both columns",
    ),
    (ex.check_paired_interval, half(lambda n, d, *_: quantile(n) * d.std()), "varies by sqrt(n) less"),
    (ex.check_paired_interval, half(lambda n, d, *_: 1.96 * d.std()), "and the mean of n"),
    (ex.check_paired_interval, half(lambda n, d, *_: quantile(n) * d.std() / n), "root of n"),
    (
        ex.check_paired_interval,
        half(lambda n, d, *_: quantile(n) * d.std(correction=0) / n**0.5),
        "ddof=1",
    ),
    (ex.check_paired_interval, half(lambda n, d, *_: {3: 2.920, 5: 2.132}[n] * d.std() / n**0.5), "0.975"),
    (ex.check_paired_interval, half(lambda n, d, *_: {3: 3.182, 5: 2.571}[n] * d.std() / n**0.5), "n - 1 = 2"),
    (ex.check_paired_interval, half(lambda n, d, *_: 4.303 * d.std() / n**0.5), "for three seeds"),
    (ex.check_paired_interval, half(lambda n, d, *_: 2 * quantile(n) * d.std() / n**0.5), "whole width"),
    (ex.check_paired_interval, half(lambda n, d, *_: d.std() / n**0.5), "standard error"),
    (ex.check_paired_interval, half(lambda n, d, *_: d.std()), "single differences: divide"),
    (ex.check_paired_interval, half(lambda n, d, *_: 0.1), "and it should be"),
    (ex.check_paired_interval, centre(lambda a, b: (b - a).mean()), "the sign"),
    (ex.check_paired_interval, centre(lambda a, b: (a - b).abs().mean()), "keep their sign"),
    (ex.check_paired_interval, centre(lambda a, b: (a - b).median()), "median"),
    (ex.check_paired_interval, centre(lambda a, b: (a - b).sum()), "the sum"),
    (ex.check_paired_interval, centre(lambda a, b: a.mean()), "seed by seed"),
    (ex.check_paired_interval, lambda *x: paired_interval(*x)[::-1], "swapped"),
    (ex.check_paired_interval, lambda *x: ends(*paired_interval(*x)), "two ends"),
    (ex.check_paired_interval, lambda *x: paired_interval(*x)[0], "return mean, half_width"),
]


def ends(mean, width):
    return mean - width, mean + width


def place_w(q):
    return [10000 ** (-i / (q - 1)) for i in range(q)]


@pytest.mark.parametrize("check, answer, lesson", FAMOUS)
def test_famous_errors_are_named(check, answer, lesson):
    verdict = check(answer)
    assert not verdict.passed and lesson in verdict.message, verdict


@pytest.mark.parametrize("name, layout, grid, base", named_layouts(), ids=[row[0] for row in named_layouts()])
def test_what_the_check_calls_unchanged_is_what_a_model_does(name, layout, grid, base):
    """A model without places, under the mask, summary tokens zero: float64, weights large enough to show a difference."""
    shape = {"img_size": 2 * grid, "patch_size": 2, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
    model = build_vit(**shape, extra="fractal", base=base, pos_embed="none").double().eval()
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.ndim > 1:
                parameter.normal_(0, 0.4, generator=noise)
        pixels = torch.randn(2, 3, 2 * grid, 2 * grid, generator=noise, dtype=torch.float64)
        change = (model(permute_tiles(pixels, layout, 2)) - model(pixels)).abs().max()
    assert (change < 1e-9) == keeps_windows(layout, grid, base), change


def test_the_learners_changes_in_place_do_not_reach_the_check():
    in_place = ex.check_unchanged(lambda p, n, k: unchanged(p.clone(), n, k) if p.zero_() is None else False)
    assert not in_place.passed


def test_the_numbers_that_the_verdicts_quote():
    """2.5; one column further is a linear map."""
    assert abs(4.303 / 3**0.5 - 2.5) < 0.02
    w, x = 0.3, 2.0
    turn = torch.tensor([[math.cos(w), math.sin(w)], [-math.sin(w), math.cos(w)]])
    here, there = (torch.tensor([math.sin(w * p), math.cos(w * p)]) for p in (x, x + 1))
    assert torch.allclose(turn @ here, there)
