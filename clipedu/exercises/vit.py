"""Checks of the exercises in 09_registers_and_fractal_vit: the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from scipy.stats import t as student
from torch import Tensor

from clipedu.exercises.base import NotYet, as_floats, compare, exercise
from clipedu.models.fractal_mask import summary_sides
from clipedu.models.position_codes import sincos2d
from clipedu.toys.patch_permutations import keeps_windows


@exercise
def check_block_macs(block_macs: Callable[[int, int], int]) -> str:
    """Check `block_macs(tokens, dim)`.

    It returns the multiply-adds of one block, with an MLP four times as wide.
    """
    for count, dim in ((85, 64), (273, 384), (10, 24)):
        linear, pairs = count * dim**2, count**2 * dim
        right = 12 * linear + 2 * pairs
        wrong = {
            2 * right: "those are FLOPs: a multiply-add is two of them",
            12 * linear: "those are the linear layers. Scores and sums of values take N^2 d each",
            12 * linear + pairs: "there are two products of N x N: the scores, and the sums of values",
            12 * linear
            + 4 * pairs: "a product of N x N with vectors of d numbers takes N^2 d multiply-adds, not two times that",
            12 * linear + 2 * count**2: "a score is a product of two vectors of d numbers: N^2 d",
            11 * linear + 2 * pairs: "attention has a fourth matrix, after the values are summed",
            10 * linear + 2 * pairs: "queries, keys and values are three matrices",
            9 * linear + 2 * pairs: "queries, keys, values and the projection behind them are four matrices: 4 N d^2",
            8 * linear
            + 2 * pairs: "a part of the linear layers is missing: 4 N d^2 in attention, and 8 N d^2 in the MLP's two",
            6 * linear + 2 * pairs: "the MLP is four times as wide inside: d x 4d and 4d x d",
            36 * linear + 2 * pairs: "the MLP's two matrices are d x 4d and 4d x d: 8 d^2",
            4 * linear + 2 * pairs: "that is attention alone: the MLP has 8 N d^2",
            12 * dim**2 + 2 * pairs: "each of the N tokens goes through the matrices",
        }
        compare(block_macs(count, dim), right, wrong, f"{count} tokens of width {dim}")
    return (
        "12 N d^2 + 2 N^2 d. The mask is nowhere in it: a dense kernel computes each score and then throws some away."
    )


@exercise
def check_place_code(place_code: Callable[[int, int, int], Tensor]) -> str:
    """Check `place_code(row, column, dim)`.

    It returns sines and cosines of column and row, at dim / 4 frequencies, [dim].
    """
    for row, column, dim in ((1, 2, 8), (3, 1, 16), (0, 5, 24)):
        given = place_code(row, column, dim)
        if not isinstance(given, Tensor) or given.shape != (dim,):
            shape = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise NotYet(f"return a tensor of {dim} numbers, not {shape}")
        quarter = dim // 4
        steps = torch.arange(quarter, dtype=torch.float64)

        def waves(x: float, y: float, w: Tensor) -> list[Tensor]:
            return [(x * w).sin(), (x * w).cos(), (y * w).sin(), (y * w).cos()]

        right_w = 10000.0 ** (-steps / (quarter - 1))
        one, two, three, four = parts = waves(column, row, right_w)
        right = sincos2d(max(row, column) + 1, dim)[row * (max(row, column) + 1) + column]
        if _alike(given, right):
            continue
        for known, why in (
            (
                torch.cat(waves(column, row, 10000.0 ** (-steps / quarter))),
                "the slowest frequency has to be 1/10000: i / (q - 1), q = d/4",
            ),
            (torch.cat(waves(row, column, right_w)), "x is the column, y the row: they are swapped"),
            (
                torch.cat(waves(row, column, 10000.0 ** (-steps / quarter))),
                "x is the column, and the exponent goes to 1: i / (q - 1)",
            ),
            (torch.cat([one, three, two, four]), "the order: both of x, then both of y"),
            (torch.cat([three, one, four, two]), "that is timm's order. Here: both of x, then both of y"),
            (torch.cat([two, one, four, three]), "the sine comes first"),
            (torch.stack(parts, 1).flatten(), "one kind after the other, not interleaved: torch.cat"),
            (torch.cat(waves(column + 1, row + 1, right_w)), "places count from 0"),
            (torch.cat(waves(column, row, 1 / right_w)), "a minus: frequencies fall from 1 to 1/10000"),
            (torch.cat(waves(column, row, 2 * math.pi * right_w)), "no 2 pi in it: x is in radians as it is"),
            (
                torch.cat(waves(column, row, right_w.flip(0))),
                "from the fastest to the slowest: the first frequency is 1",
            ),
        ):
            if _alike(given, known):
                raise NotYet(f"for row {row}, column {column} and {dim} numbers: {why}.")
        place = int(((given.double() - right).abs() > 1e-4).nonzero()[0])
        raise NotYet(
            f"for row {row}, column {column} and {dim} numbers, number {place} (from 0) is {given[place].item():.4f}, and it "
            f"should be {right[place].item():.4f}."
        )
    return "so a *linear* map can move a code by one column: each pair sin x w, cos x w turns by the angle w."


@exercise
def check_unchanged(unchanged: Callable[[Tensor, int, int], bool]) -> str:
    """Check `unchanged(layout, grid, base)`.

    It returns whether a model with the mask, without position codes and with equal summary tokens, gives the same
    output for it.

    layout [grid^2]: where each patch of the new picture is taken from.
    """
    layouts = named_layouts()
    given = []
    for _, layout, grid, base in layouts:
        answer = unchanged(layout.clone(), grid, base)
        if answer is None or (isinstance(answer, Tensor) and answer.numel() != 1):
            raise NotYet("return True or False")
        given.append(bool(answer))
    right = [keeps_windows(layout, grid, base) for _, layout, grid, base in layouts]
    if given == right:
        return "the mask fixes which patches belong together, never where a window is: mirror the windows, and nothing changes."

    def known(rule: Callable[[Tensor, int, list[int]], bool]) -> list[bool]:
        return [rule(layout, grid, summary_sides(grid, base)) for _, layout, grid, base in layouts]

    for wrong, why in (
        (known(lambda *_: True), "that is the model without a mask, to which all layouts are one"),
        (known(lambda *_: False), "some layouts change nothing: which patches share a window is all that the mask fixes"),
        ([not yes for yes in right], "turned round: True where nothing changes"),
        (known(lambda p, n, s: bool((p == torch.arange(n * n)).all())), "that is a model with position codes. The mask fixes less"),
        ([keeps_windows(layout, grid, base, in_place=True) for _, layout, grid, base in layouts], "patches need not stay in *their* window: summary tokens that are all alike may be swapped, too"),
        (known(lambda p, n, s: keeps_levels(p, n, s[-1:])), "that looks at the smallest windows alone: larger ones have to stay together, too"),
        (known(lambda p, n, s: keeps_levels(p, n, s[:2])), "that looks at the largest windows alone: smaller ones have to stay together, too"),
        (known(is_symmetry), "not only mirroring and turning: patches may be shuffled inside a window, and windows swapped"),
    ):  # fmt: skip
        if given == wrong:
            raise NotYet(f"{why}.")
    for (name, _, grid, base), yes, should in zip(layouts, given, right, strict=True):
        if yes != should:
            raise NotYet(f"{name} ({grid} x {grid} patches, base {base}): you say {yes}, and it should be {should}.")
    raise AssertionError("unreachable: some answer differs")


def named_layouts() -> list[tuple[str, Tensor, int, int]]:
    """List layouts: name, where each patch is taken from, grid, base."""
    four, eight = torch.arange(16).reshape(4, 4), torch.arange(64).reshape(8, 8)
    noise = torch.Generator().manual_seed(0)
    diagonal = four.clone()
    diagonal[:2, :2], diagonal[2:, 2:] = four[2:, 2:], four[:2, :2]
    inside = four.clone()
    inside[:2, :2] = four[:2, :2].flip(0).T
    across = four.clone()
    across[0, 1], across[0, 2] = four[0, 2], four[0, 1]
    far = eight.clone()
    far[:2, :2], far[4:6, 4:6] = eight[4:6, 4:6], eight[:2, :2]
    near = eight.clone()
    near[:2, :2], near[2:4, 2:4] = eight[2:4, 2:4], eight[:2, :2]
    ragged = eight.clone()
    ragged[1, 1], ragged[1, 2] = eight[1, 2], eight[1, 1]
    named = [
        ("nothing moved", four, 2),
        ("patches shuffled inside one window", inside, 2),
        ("two windows swapped", diagonal, 2),
        ("columns mirrored", four.flip(1), 2),
        ("turned by 90 degrees", four.rot90(), 2),
        ("rolled by two columns, a window", four.roll(2, 1), 2),
        ("rolled by one column", four.roll(1, 1), 2),
        ("two neighbours of different windows swapped", across, 2),
        ("a random layout", torch.randperm(16, generator=noise).reshape(4, 4), 2),
        ("a random layout with one window for all", torch.randperm(16, generator=noise).reshape(4, 4), 4),
        ("rolled by four columns, a window of 4 x 4", eight.roll(4, 1), 2),
        ("rolled by two columns, a window of 2 x 2", eight.roll(2, 1), 2),
        ("two windows of 2 x 2 swapped inside one of 4 x 4", near, 2),
        ("two windows of 2 x 2 swapped, of different 4 x 4", far, 2),
        ("two neighbours of different windows of 2 x 2 swapped, of one 4 x 4", ragged, 2),
    ]
    return [(name, layout.flatten(), len(layout), base) for name, layout, base in named]


def _window(grid: int, side: int) -> Tensor:
    """Return the window of each patch, `side` along an edge: [grid^2]."""
    along = torch.arange(grid) // (grid // side)
    return (along[:, None] * side + along).flatten()


def keeps_levels(layout: Tensor, grid: int, sides: Sequence[int]) -> bool:
    """Return whether patches that share a window share one after a layout.

    The converse has to hold, too: patches of different windows stay apart.

    Args:
        layout: where each patch is taken from, int64 [grid^2].
        grid: patches along one side.
        sides: windows along one side, of each level to look at.
    """
    for side in sides:
        window = _window(grid, side)
        before, after = window[:, None] == window, window[layout][:, None] == window[layout]
        if not torch.equal(before, after):
            return False
    return True


def is_symmetry(layout: Tensor, grid: int, sides: Sequence[int]) -> bool:
    """Return whether a layout is one of the eight symmetries of a square.

    Args:
        layout: where each patch is taken from, int64 [grid^2].
        grid: patches along one side.
        sides: not used; makes it a rule like `keeps_levels`.
    """
    square = torch.arange(grid * grid).reshape(grid, grid)
    turned = [square.rot90(k) for k in range(4)]
    return any(torch.equal(layout, t.flatten()) for t in [*turned, *(t.flip(1) for t in turned)])


@exercise
def check_paired_interval(paired_interval: Callable[[Tensor, Tensor], tuple[float, float]]) -> str:
    """Check `paired_interval(new, old)`.

    It returns the mean of new - old over seeds, and half the width of its 95 % interval.
    """
    for new, old in (
        ([52.0, 47.5, 58.1], [50.9, 46.1, 57.6]),
        ([61.0, 55.2, 58.0, 49.9, 63.3], [60.1, 55.9, 56.2, 48.8, 61.5]),
    ):
        a, b = torch.tensor(new, dtype=torch.float64), torch.tensor(old, dtype=torch.float64)
        count, difference = len(a), a - b
        mean, spread = difference.mean().item(), difference.std().item()
        error = spread / math.sqrt(count)
        t = student.ppf(0.975, count - 1)
        right = t * error
        centre, half = as_floats(paired_interval(a.clone(), b.clone()), "two numbers", "mean, half_width")
        case = f"{count} seeds"
        if math.isclose(centre, mean - right, rel_tol=1e-3) and math.isclose(half, mean + right, rel_tol=1e-3):
            raise NotYet("those are the two ends of the right interval: `return mean, half_width`")
        if math.isclose(centre, right, rel_tol=1e-3) and math.isclose(half, mean, rel_tol=1e-3):
            raise NotYet("the two are swapped: `return mean, half_width`")
        wrong = {
            -mean: "the sign: new minus old",
            difference.abs().mean().item(): "differences keep their sign",
            difference.median().item(): "that is the median",
            mean * count: "that is the sum",
            a.mean().item(): "subtract the old scores, seed by seed",
        }
        compare(centre, mean, wrong, f"the mean difference over {case}")
        variances = a.var().item() + b.var().item()
        unpaired = math.sqrt(variances / count)
        known = {
            1.96 * error: f"1.96 is for many seeds; with {count} it is t of {count - 1} degrees of freedom, {t:.3f}",
            1.96 * unpaired: "1.96 is for many seeds; and the seeds are paired, so take the spread of the differences",
            student.ppf(0.975, 2 * count - 2) * unpaired: "that is for unpaired runs. Here each seed draws the same scenes "
            "for both, so take the spread of the differences",
            t * unpaired: "the seeds are paired: take the spread of the differences, not of both columns",
            t * spread: "that is the spread of single differences: the mean of n varies by sqrt(n) less",
            1.96 * spread: "1.96 is for many seeds, and the mean of n varies by sqrt(n) less than single differences",
            t * spread / count: "divide by the root of n",
            t * error * math.sqrt((count - 1) / count): "the sum of squares is divided by n - 1, not by n (ddof=1)",
            student.ppf(0.95, count - 1) * error: "that quantile leaves 5 % on one side; an interval leaves 2.5 % on each: 0.975",
            student.ppf(0.975, count) * error: f"n differences and their mean: n - 1 = {count - 1} degrees of freedom",
            4.303 * error: "4.303 is for three seeds",
            2 * right: "that is the whole width",
            error: "that is the standard error: times the quantile of t",
            spread: "that is the spread of single differences: divide by the root of n, times the quantile of t",
        }  # fmt: skip
        half = next((value for value in (right, *known) if math.isclose(half, value, rel_tol=1e-3)), half)
        compare(half, right, known, f"the half-width over {case}")
    return "with three seeds the spread is multiplied by 2.5. Pairing takes out what all runs of a seed share, its scenes above all."


def _alike(given: Tensor, other: Tensor) -> bool:
    return torch.allclose(given.detach().double(), other.double(), atol=1e-4)
