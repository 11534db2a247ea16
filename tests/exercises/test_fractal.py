"""Each check of 09_registers_and_fractal_vit about the mask passes the right answer and names the famous errors."""

import pytest
import torch

from clipedu import exercises as ex


def summary_tokens(grid, base):
    """By the closed form."""
    count = (grid**2 - 1) // (base**2 - 1)
    return count, count + grid**2


def may_attend(query, key):
    """By sets of patches, not by comparing edges."""
    size, other = query[0], key[0]
    mine, yours = covered(query), covered(key)
    return size == other or mine <= yours or yours <= mine


def covered(token):
    size, top, left = token
    return {(row, column) for row in range(top, top + size) for column in range(left, left + size)}


def same(query, key):
    return query[0] == key[0]


def nested(query, key):
    return covered(query) <= covered(key) or covered(key) <= covered(query)


def parents_only(query, key):
    """Neighbouring levels only, for the bases of each grid: sizes differ by one factor of 2 or 3."""
    large, small = max(query[0], key[0]), min(query[0], key[0])
    return same(query, key) or (nested(query, key) and large // small in (2, 3))


def edges(first, last):
    def rule(query, key):
        large, small = max(query, key), min(query, key)
        inside = all(first(large[k], small[k]) and last(small[k], large[k] + large[0]) for k in (1, 2))
        return same(query, key) or inside

    return rule


def reach(mask, blocks):
    """By walking: what is seen, and what that has seen before."""
    seen = torch.eye(len(mask), dtype=torch.bool)
    for _ in range(blocks):
        seen = torch.stack([seen[row].any(0) for row in mask])
    return seen


def ways(mask, blocks):
    return torch.linalg.matrix_power(mask.double(), blocks)


RIGHT = [
    (ex.check_summary_tokens, summary_tokens),
    (ex.check_summary_tokens, lambda *x: torch.tensor(summary_tokens(*x)).tolist()),
    (ex.check_may_attend, may_attend),
    (ex.check_may_attend, lambda q, k: torch.tensor(may_attend(q, k))),
    (ex.check_reach, reach),
    (ex.check_reach, lambda mask, blocks: ways(mask, blocks) > 0),
    (ex.check_for_mha, lambda mask: ~mask),
    (ex.check_for_mha, lambda mask: torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)),
    (ex.check_for_mha, lambda mask: mask.float().log()),
    (ex.check_for_mha, lambda mask: (1 - mask.float()) * -1e9),
]


@pytest.mark.parametrize("check, answer", RIGHT)
def test_right_answers_pass(check, answer):
    verdict = check(answer)
    assert verdict.passed, verdict


def levels(grid, base):
    sides = [1]
    while sides[-1] * base < grid:
        sides.append(sides[-1] * base)
    return sides


def count(change):
    return lambda n, k: (change(n, k), summary_tokens(n, k)[1])


FAMOUS = [
    (ex.check_summary_tokens, count(lambda n, k: summary_tokens(n, k)[1]), "counts the patches"),
    (ex.check_summary_tokens, count(lambda n, k: sum(levels(n, k))), "s^2 tokens"),
    (ex.check_summary_tokens, count(lambda n, k: len(levels(n, k))), "number of levels"),
    (ex.check_summary_tokens, count(lambda n, k: (n // k) ** 2), "finest level alone"),
    (ex.check_summary_tokens, count(lambda n, k: summary_tokens(n, k)[0] - 1), "the whole picture"),
    (ex.check_summary_tokens, count(lambda n, k: (n**2 - 1) // (k - 1)), "base^2 of the next"),
    (ex.check_summary_tokens, count(lambda n, k: sum(s * s for s in levels(n, 2))), "the base is 4"),
    (ex.check_summary_tokens, count(lambda n, k: 0), "and it should be"),
    (ex.check_summary_tokens, lambda n, k: (summary_tokens(n, k)[0], n**2), "patches alone"),
    (ex.check_summary_tokens, lambda n, k: (summary_tokens(n, k)[0],) * 2, "add the patches"),
    (ex.check_summary_tokens, lambda n, k: (summary_tokens(n, k)[0], summary_tokens(n, k)[0] + n), "grid * grid"),
    (ex.check_summary_tokens, lambda n, k: (summary_tokens(n, k)[0], summary_tokens(n, k)[1] + 1), "no [CLS]"),
    (ex.check_summary_tokens, lambda n, k: summary_tokens(n, k)[::-1], "swapped"),
    (ex.check_summary_tokens, lambda n, k: summary_tokens(n, k)[0], "return count, length"),
    (ex.check_may_attend, lambda q, k: not may_attend(q, k), "turned round"),
    (ex.check_may_attend, lambda q, k: True, "no mask"),
    (ex.check_may_attend, same, "first half"),
    (ex.check_may_attend, nested, "second half"),
    (ex.check_may_attend, lambda q, k: same(q, k) or covered(k) <= covered(q), "they do not see it"),
    (ex.check_may_attend, lambda q, k: same(q, k) or covered(q) <= covered(k), "those do not see them"),
    (ex.check_may_attend, parents_only, "neighbouring levels"),
    (ex.check_may_attend, lambda q, k: may_attend(q, k) or min(q[0], k[0]) > 1, "different levels"),
    (ex.check_may_attend, lambda q, k: nested(q, k) or (same(q, k) and q[0] > 1), "patches are of one level too"),
    (
        ex.check_may_attend,
        lambda q, k: nested(q, k) or (same(q, k) and (q[0] > 1 or (q[1] // 2 == k[1] // 2 and q[2] // 2 == k[2] // 2))),
        "never masked",
    ),
    (ex.check_may_attend, lambda q, k: may_attend((q[0], q[1], 0), (k[0], k[1], 0)), "rows and not columns"),
    (ex.check_may_attend, lambda q, k: may_attend((q[0], 0, q[2]), (k[0], 0, k[2])), "columns and not rows"),
    (ex.check_may_attend, edges(lambda a, b: a <= b, lambda a, b: a <= b), "ends before row"),
    (ex.check_may_attend, edges(lambda a, b: a < b, lambda a, b: a < b), "its own first row"),
    (ex.check_may_attend, lambda q, k: may_attend(q, k) and q != k, "they are of one level"),
    (ex.check_may_attend, lambda q, k: None, "True or False"),
    (ex.check_reach, lambda mask, blocks: mask, "number by number"),
    (ex.check_reach, lambda mask, blocks: mask**blocks, "number by number"),
    (ex.check_reach, lambda mask, blocks: ways(mask, blocks), "count the ways"),
    (ex.check_reach, lambda mask, blocks: ways(mask, blocks).long(), "count the ways"),
    (ex.check_reach, lambda mask, blocks: mask.float(), "number by number"),
    (ex.check_reach, lambda mask, blocks: reach(mask, blocks).float(), "return a bool tensor"),
    (ex.check_reach, lambda mask, blocks: reach(mask, blocks).T, "the token that looks"),
    (ex.check_reach, lambda mask, blocks: ~reach(mask, blocks), "where it can depend"),
    (ex.check_reach, lambda mask, blocks: reach(mask, blocks - 1), "one block too few"),
    (ex.check_reach, lambda mask, blocks: reach(mask, blocks + 1), "one block too many"),
    (
        ex.check_reach,
        lambda mask, blocks: mask if blocks == 1 else torch.ones_like(mask),
        "too few blocks",
    ),
    (ex.check_reach, lambda mask, blocks: reach(mask, 2 ** (blocks - 1)), "that squares"),
    (ex.check_reach, lambda mask, blocks: torch.zeros_like(mask), "of 100 pairs"),
    (ex.check_reach, lambda mask, blocks: mask.any(), "mask's shape"),
    (ex.check_for_mha, lambda mask: mask, "early version of the paper"),
    (ex.check_for_mha, lambda mask: ~mask.T, "rows are queries"),
    (ex.check_for_mha, lambda mask: mask.T, "early version of the paper"),
    (ex.check_for_mha, lambda mask: mask.float(), "1 blocks nothing"),
    (ex.check_for_mha, lambda mask: (~mask).float(), "prefers by 1"),
    (ex.check_for_mha, lambda mask: mask.float() - 1, "-1 makes less likely"),
    (ex.check_for_mha, lambda mask: torch.zeros(mask.shape).masked_fill(mask, -torch.inf), "-inf belongs where"),
    (ex.check_for_mha, lambda mask: torch.zeros(mask.shape).masked_fill(~mask, torch.inf), "the sign"),
    (ex.check_for_mha, lambda mask: (1 - mask.float()) * -torch.inf, "0 times infinity"),
    (ex.check_for_mha, lambda mask: ~mask.long(), "flips all its bits"),
    (ex.check_for_mha, lambda mask: 1 - mask.long(), "no integers"),
    (ex.check_for_mha, lambda mask: -3 * (~mask).float(), "of its weight"),
    (ex.check_for_mha, lambda mask: mask[0], "mask's shape"),
]


def ends(mean, width):
    return mean - width, mean + width


@pytest.mark.parametrize("check, answer, lesson", FAMOUS)
def test_famous_errors_are_named(check, answer, lesson):
    verdict = check(answer)
    assert not verdict.passed and lesson in verdict.message, verdict


def test_the_learners_changes_in_place_do_not_reach_the_check():
    def in_place(mask):
        return mask.logical_not_()

    assert ex.check_for_mha(in_place).passed


def test_the_numbers_that_the_verdicts_quote():
    """17 tokens and 7 %."""
    assert summary_tokens(16, 4)[0] == 17 and summary_tokens(16, 4)[1] / 256 == pytest.approx(1.07, abs=0.005)
