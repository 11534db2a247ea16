"""Checks of the exercises in 09_registers_and_fractal_vit: the mask."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from clipedu.exercises.base import NotYet, as_floats, compare, exercise
from clipedu.models.fractal_mask import fractal_mask, summary_sides, tokens

Token = tuple[int, int, int]  # size, top, left of its window, in patches


@exercise
def check_summary_tokens(summary_tokens: Callable[[int, int], tuple[int, int]]) -> str:
    """Check `summary_tokens(grid, base)`.

    It returns how many summary tokens a grid of patches gets, and how long the sequence is with them.
    """
    for grid, base in ((8, 2), (16, 4), (9, 3), (16, 2), (14, 14)):
        sides = summary_sides(grid, base)
        right = sum(side**2 for side in sides)
        length = right + grid**2
        case = f"a grid of {grid} x {grid} and base {base}"
        count, given = as_floats(summary_tokens(grid, base), "two numbers", "count, length")
        if (count, given) == (length, right):
            raise NotYet("the two are swapped: `return count, length`")
        wrong = {
            len(sides): "that is the number of levels; a level of s a side has s^2 tokens",
            (grid**2 - 1) / (base - 1): "a window holds base^2 of the next level, not base",
            sum(sides): "a level of s a side has s^2 tokens: levels are squares",
            sides[-1] ** 2: "that is the finest level alone; they go on, to the one token that stands for all",
            right - 1: "the coarsest level is 1 x 1: one token stands for the whole picture",
            length: "that counts the patches too",
            length - 1: "that counts the patches, and leaves out the token of the 1 x 1 level",
            sum(4**level for level in range(grid.bit_length() - 1)): f"that is base 2, and the base is {base}",
        }
        compare(count, right, wrong, f"the summary tokens of {case}")
        wrong = {
            grid**2: "that is the patches alone",
            right: "that is the summary tokens alone: add the patches",
            right + grid: "there are grid * grid patches",
            length + 1: "there is no [CLS] besides: the token of the 1 x 1 level is one",
        }
        compare(given, length, wrong, f"the length of the sequence of {case}")
    return "(n^2 - 1) / (k^2 - 1): the paper's 16 x 16 patches in windows of 4 get 17, which is 7 % more tokens."


@exercise
def check_may_attend(may_attend: Callable[[Token, Token], bool]) -> str:
    """Check `may_attend(query, key)`.

    It is the rule for two tokens (size, top, left).
    """
    for grid, base in ((4, 2), (8, 2), (9, 3)):
        rows: list[Token] = [
            (size, top, left) for size, top, left in tokens([*summary_sides(grid, base), grid]).tolist()
        ]
        pairs = [(query, key) for query in rows for key in rows]
        first = may_attend(rows[0], rows[0])
        if first is None or isinstance(first, (str, tuple, list)):
            raise NotYet(f"return True or False, not a {type(first).__name__}")
        given = [bool(may_attend(query, key)) for query, key in pairs]
        right = [_same(query, key) or _nested(query, key) for query, key in pairs]
        if given == right:
            continue
        for rule, why in _WRONG_RULES:
            if given == [rule(query, key, base) for query, key in pairs]:
                raise NotYet(f"on {grid} x {grid} patches, windows of base {base}: {why}.")
        place = next(place for place, yes in enumerate(given) if yes != right[place])
        query, key = pairs[place]
        raise NotYet(
            f"on {grid} x {grid} patches, windows of base {base}, query {query} and key {key} (size, top, left): you say "
            f"{given[place]}, and it should be {right[place]}: they are {'' if _same(query, key) else 'not '}of one level, "
            f"and one {'contains' if _nested(query, key) else 'does not contain'} the other."
        )
    return "all pairs of three grids. One rule at every scale: that is what is fractal about it."


def _same(query: Token, key: Token) -> bool:
    return query[0] == key[0]


def _contains(large: Token, small: Token) -> bool:
    return all(large[k] <= small[k] and small[k] + small[0] <= large[k] + large[0] for k in (1, 2))


def _nested(query: Token, key: Token) -> bool:
    return _contains(query, key) or _contains(key, query)


def _along(axis: int) -> Callable[[Token, Token, int], bool]:
    """Make the rule with windows compared along one axis only.

    Axis 1 is rows, axis 2 is columns.
    """

    def inside(large: Token, small: Token) -> bool:
        return large[axis] <= small[axis] and small[axis] + small[0] <= large[axis] + large[0]

    return lambda query, key, base: _same(query, key) or inside(query, key) or inside(key, query)


def _edges(first: Callable[[int, int], bool], last: Callable[[int, int], bool]) -> Callable[[Token, Token, int], bool]:
    """Make the rule with other signs at the two ends of a window."""

    def inside(large: Token, small: Token) -> bool:
        return all(first(large[k], small[k]) and last(small[k], large[k] + large[0]) for k in (1, 2))

    return lambda query, key, base: (
        _same(query, key) or (inside(query, key) if query[0] > key[0] else inside(key, query))
    )


_WRONG_RULES: list[tuple[Callable[[Token, Token, int], bool], str]] = [
    (lambda q, k, base: not (_same(q, k) or _nested(q, k)), "turned round: True means may attend"),
    (lambda q, k, base: True, "you let everything see everything; then there is no mask"),
    (lambda q, k, base: _same(q, k), "that is the first half. A window also sees what it contains, and is seen by it"),
    (
        lambda q, k, base: _nested(q, k),
        "that is the second half. Tokens of one size see each other too, patches included",
    ),
    (
        lambda q, k, base: _same(q, k) or _contains(q, k),
        "a window sees its patches, but they do not see it: the rule holds both ways",
    ),
    (
        lambda q, k, base: _same(q, k) or _contains(k, q),
        "patches see their windows, but those do not see them: the rule holds both ways",
    ),
    (
        lambda q, k, base: _same(q, k) or (_nested(q, k) and max(q[0], k[0]) == base * min(q[0], k[0])),
        "you let only neighbouring levels see each other; a window sees all that it contains, at any distance in levels",
    ),
    (
        lambda q, k, base: _same(q, k) or _nested(q, k) or (q[0] > 1 and k[0] > 1),
        "two summary tokens of different levels see each other only where one's window contains the other's",
    ),
    (
        lambda q, k, base: (_same(q, k) and q[0] > 1) or _nested(q, k),
        "patches are of one level too: each sees all others. (Masking them ruined accuracy in the authors' first trials)",
    ),
    (
        lambda q, k, base: (
            (_same(q, k) and (q[0] > 1 or all(q[c] // base == k[c] // base for c in (1, 2)))) or _nested(q, k)
        ),
        "patches are not kept to their window: attention among patches is never masked",
    ),
    (_along(1), "you compare rows and not columns"),
    (_along(2), "you compare columns and not rows"),
    (
        _edges(lambda a, b: a <= b, lambda a, b: a <= b),
        "off by one: a window of size s that begins at row t ends before row t + s",
    ),
    (_edges(lambda a, b: a < b, lambda a, b: a < b), "off by one: a window contains its own first row and column"),
]


@exercise
def check_reach(reach: Callable[[Tensor, int], Tensor]) -> str:
    """Check `reach(mask, blocks)`.

    It returns bool [L, L], True where token i after so many blocks can depend on token j before them.
    """
    chain = torch.eye(10, dtype=torch.bool) | torch.diag(torch.ones(9, dtype=torch.bool), -1)  # itself, the one before
    for name, mask, blocks in (
        ("a chain of 10 tokens, each of which sees itself and the one before", chain, 4),
        ("the fractal mask of 4 x 4 patches", fractal_mask(4, 2), 1),
        ("the fractal mask of 8 x 8 patches", fractal_mask(8, 2), 2),
    ):
        given = reach(mask.clone(), blocks)
        if not isinstance(given, Tensor) or given.shape != mask.shape:
            raise NotYet(f"return a tensor of the mask's shape, {list(mask.shape)}")

        def after(blocks: int, mask: Tensor = mask) -> Tensor:
            return torch.linalg.matrix_power(mask.double(), blocks)

        right = after(blocks) > 0
        case = f"for {name} and {blocks} block{'s' * (blocks > 1)}"
        whole = given.dtype == torch.bool
        if whole and torch.equal(given, right):
            continue
        if not whole and torch.equal(given.double(), after(blocks)):
            raise NotYet(f"{case} you count the ways from j to i. Is there one at all? `> 0`")
        given = given != 0
        for known, why in (
            (right, "return a bool tensor: `> 0`, or `.bool()`"),
            (right.T, "turned round: the row is the token that looks, the column the one that is seen"),
            (~right, "turned round: True where it can depend"),
            (mask, "that is one block. A power by ** is taken number by number: a matrix product is `@`"),
            (after(blocks - 1) > 0, "that is one block too few: begin with the mask itself, or with the identity"),
            (after(blocks + 1) > 0, "that is one block too many: one block is the mask itself"),
            (after(2 ** (blocks - 1)) > 0, "that squares: each block multiplies by the mask once"),
            (after(2**blocks) > 0, "that squares: each block multiplies by the mask once"),
            (torch.ones_like(mask), "not everything: for that there are too few blocks, or no way"),
        ):
            if torch.equal(given, known):
                raise NotYet(f"{case}: {why}.")
        raise NotYet(f"{case} {int((given != right).sum())} of {mask.numel()} pairs are wrong.")
    return "after two blocks of the fractal mask all depend on all: the token of the 1 x 1 level passes everything on."


@exercise
def check_for_mha(for_mha: Callable[[Tensor], Tensor]) -> str:
    """Check `for_mha(mask)`.

    It returns what nn.MultiheadAttention takes as attn_mask; mask is True where a query may attend.
    """
    noise = torch.Generator().manual_seed(0)
    one_way = (torch.rand(8, 8, generator=noise) < 0.5) | torch.eye(8, dtype=torch.bool)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
    for name, mask in (("the fractal mask of 4 x 4 patches", fractal_mask(4, 2)), ("a mask that is one-way", one_way)):
        given = for_mha(mask.clone())
        if not isinstance(given, Tensor) or given.shape != mask.shape:
            raise NotYet(f"return a tensor of the mask's shape, {list(mask.shape)}")
        if given.dtype != torch.bool and not given.is_floating_point():
            if torch.equal(given, ~mask.to(given.dtype)):
                raise NotYet("`~` of an integer flips all its bits (1 becomes -2): use it on the bool mask")
            raise NotYet("nn.MultiheadAttention takes a bool mask or a float one, and no integers")
        if given.is_floating_point() and given.isnan().any():
            raise NotYet("there is nan in it: 0 times infinity. Fill instead, by masked_fill or torch.where")
        x = torch.randn(2, len(mask), 8, generator=noise)
        with torch.no_grad():
            output, weights = attention(x, x, x, attn_mask=given)
            expected = attention(x, x, x, attn_mask=~mask)[0]
        if torch.allclose(output, expected, atol=1e-5):
            continue
        added, least = mask.float(), torch.tensor(-torch.inf)
        for known, why in (
            (
                mask,
                "as it was, and so it blocks all that should see each other. An early version of the paper's code had it so",
            ),
            (~mask.T, "turned round, and transposed: in both, rows are queries"),
            (added, "a float mask is *added* to the scores, and 1 blocks nothing: it takes 0 and -inf"),
            (
                1 - added,
                "a float mask is *added* to the scores: this prefers by 1 what it should block. It takes 0 and -inf",
            ),
            (
                added - 1,
                "a float mask is *added* to the scores: -1 makes less likely and blocks nothing. It takes -inf",
            ),
            (torch.where(mask, least, 0.0), "turned round: -inf belongs where the mask is False"),
            (torch.where(mask, 0.0, -least), "the sign: +inf makes nan of a softmax, -inf blocks"),
        ):
            if given.dtype == known.dtype and torch.equal(given, known):
                raise NotYet(f"for {name}: {why}.")
        leak = weights[:, ~mask].sum().item() / (2 * len(mask))
        raise NotYet(f"for {name}: nn.MultiheadAttention gives blocked pairs {100 * leak:.2g} % of its weight, not 0.")
    return "`nn.MultiheadAttention` takes what to block, `scaled_dot_product_attention` and timm what to allow. Both take bool."
