"""Each check of the geometry exercises passes the right answer, and names the famous error of a wrong one."""

import math

import pytest
import torch

from clipedu import exercises as ex


def expmap0(u, c):
    a = math.sqrt(c) * u.norm().clamp(min=1e-12)
    return torch.sinh(a) / a * u


def length_map(function, slope=lambda c: math.sqrt(c)):
    """A map that keeps the direction: u times function(a) / a with a = slope(c) |u|."""

    def mapped(u, c):
        a = slope(c) * u.norm().clamp(min=1e-12)
        return function(a) / a * u

    return mapped


def minus_inner(x, y, c, time=lambda x, c: torch.sqrt(1 / c + x @ x)):
    return c * (time(x, c) * time(y, c) - x @ y)


def distance(x, y, c):
    return torch.acosh(minus_inner(x, y, c).clamp(min=1)) / math.sqrt(c)


def aperture(x, k, c):
    return torch.asin((2 * k / (math.sqrt(c) * x.norm())).clamp(max=1))


def open_gap(image, text):
    ones = torch.ones(len(image), 1, dtype=image.dtype)
    return torch.cat([image, ones], 1), torch.cat([text, 0 * ones], 1)


def ranks(x):
    return torch.tensor([(x < value).sum() + ((x == value).sum() + 1) / 2 for value in x], dtype=torch.float64)


def pearson(x, y):
    return torch.corrcoef(torch.stack([x.double(), y.double()]))[0, 1]


def spearman(radius, level):
    return pearson(ranks(radius), ranks(level)).item()


RIGHT = [
    (ex.check_expmap0, expmap0),
    (ex.check_lorentz_distance, distance),
    (ex.check_lorentz_distance, lambda x, y, c: distance(x, y, c).item()),
    (ex.check_lorentz_distance, lambda x, y, c: torch.acosh(minus_inner(x, y, c).clamp(min=1 + 1e-8)) / c**0.5),
    (ex.check_half_aperture, aperture),
    (ex.check_half_aperture, lambda x, k, c: math.asin(min(1.0, 2 * k / (math.sqrt(c) * x.norm().item())))),
    (ex.check_open_gap, open_gap),
    (ex.check_open_gap, lambda i, t: (open_gap(i, t)[0] + 3, open_gap(i, t)[1] + 3)),
    (ex.check_open_gap, lambda i, t: tuple(torch.nn.functional.pad(s, (0, 2), value=v) for s, v in ((i, 2.0), (t, -2.0)))),
    (ex.check_spearman, spearman),
    (ex.check_spearman, lambda r, g: __import__("scipy.stats").stats.spearmanr(r, g).statistic),
]  # fmt: skip


@pytest.mark.parametrize("check, answer", RIGHT)
def test_right_answers_pass(check, answer):
    verdict = check(answer)
    assert verdict.passed, verdict


FAMOUS = [
    (ex.check_expmap0, lambda u, c: u, "longer, by sinh(a) / a"),
    (ex.check_expmap0, lambda u, c: math.sqrt(c) * expmap0(u, c), "last sqrt(c) is missing"),
    (ex.check_expmap0, length_map(torch.sinh, lambda c: 1), "curvature is missing"),
    (ex.check_expmap0, length_map(torch.sinh, lambda c: c), "root of c"),
    (ex.check_expmap0, length_map(torch.tanh), "Poincare ball"),
    (ex.check_expmap0, length_map(torch.cosh), "time part"),
    (ex.check_expmap0, lambda u, c: torch.sinh(u), "vector's length"),
    (ex.check_expmap0, lambda u, c: torch.sinh(c**0.5 * u.norm()) / (c**0.5 * u.norm()) * u, "divide 0 by 0"),
    (ex.check_expmap0, lambda u, c: expmap0(u, c) + (u.norm() == 0), "stay where it is"),
    (ex.check_expmap0, lambda u, c: expmap0(u, c).tolist(), "not a list"),
    (ex.check_expmap0, lambda u, c: expmap0(u, c)[:2], "shape [3]"),
    (ex.check_expmap0, lambda u, c: 3 * u, "it should be (0.3127"),
    (ex.check_lorentz_distance, lambda x, y, c: (x - y).norm(), "straight line"),
    (ex.check_lorentz_distance, lambda x, y, c: distance(x, y, c) * math.sqrt(c), "divide by sqrt(c)"),
    (ex.check_lorentz_distance, lambda x, y, c: distance(x, y, c) / math.sqrt(c), "not by c"),
    (ex.check_lorentz_distance, lambda x, y, c: distance(x, y, c) ** 2, "squared"),
    (ex.check_lorentz_distance, lambda x, y, c: torch.acosh((minus_inner(x, y, c) / c).clamp(min=1)) / c**0.5, "factor c"),
    (ex.check_lorentz_distance, lambda x, y, c: torch.acosh(minus_inner(-x, y, c)) / c**0.5, "time counts minus"),
    (ex.check_lorentz_distance, lambda x, y, c: torch.acosh(minus_inner(x, y, c, lambda x, c: (1 + x @ x).sqrt()).clamp(min=1)) / c**0.5, "with 1 / c"),
    (ex.check_lorentz_distance, lambda x, y, c: torch.acosh(-minus_inner(x, y, c)) / c**0.5, "Is the sign right"),
    (ex.check_lorentz_distance, lambda x, y, c: torch.acosh(minus_inner(x, y, c)) / c**0.5, "Clamp it to 1"),
    (ex.check_lorentz_distance, lambda x, y, c: distance(x, y, c) + (x == y).all(), "to itself should be 0"),
    (ex.check_lorentz_distance, lambda x, y, c: None, "one number"),
    (ex.check_half_aperture, lambda x, k, c: 2 * aperture(x, k, c), "half of it"),
    (ex.check_half_aperture, lambda x, k, c: torch.rad2deg(aperture(x, k, c)), "degrees"),
    (ex.check_half_aperture, lambda x, k, c: torch.asin(k / x.norm()), "Euclidean cone"),
    (ex.check_half_aperture, lambda x, k, c: aperture(x, k / 2, c), "factor 2" ),
    (ex.check_half_aperture, lambda x, k, c: torch.asin((2 * k / (c * x.norm())).clamp(max=1)), "the root is missing"),
    (ex.check_half_aperture, lambda x, k, c: aperture(x, k, 1), "curvature is missing"),
    (ex.check_half_aperture, lambda x, k, c: 2 * k / (math.sqrt(c) * x.norm()), "the sine"),
    (ex.check_half_aperture, lambda x, k, c: math.pi / 2 - aperture(x, k, c), "arcsin, not arccos"),
    (ex.check_half_aperture, lambda x, k, c: torch.asin(2 * k / (math.sqrt(c) * x.norm())), "Clamp it to 1"),
    (ex.check_open_gap, lambda i, t: (i, t), "should be 1 or more"),
    (ex.check_open_gap, lambda i, t: (i + 5, t + 5), "Moving both sides"),
    (ex.check_open_gap, lambda i, t: (i + 5, t), "none of them uses"),
    (ex.check_open_gap, lambda i, t: (9 * i, 9 * t), "none of them uses"),
    (ex.check_open_gap, lambda i, t: open_gap(i, t)[0], "both embeddings"),
    (ex.check_open_gap, lambda i, t: (open_gap(i, t)[0], t), "equally many columns"),
    (ex.check_open_gap, lambda i, t: (i.tolist(), t), "not a list"),
    (ex.check_spearman, lambda r, g: pearson(r, g), "turn both into ranks"),
    (ex.check_spearman, lambda r, g: pearson(r.argsort(), g.argsort(stable=True)), "apply it twice"),
    (ex.check_spearman, lambda r, g: pearson(r.argsort().argsort(), g.argsort(stable=True).argsort()), "mean of their ranks"),
    (ex.check_spearman, lambda r, g: -spearman(r, g), "sign is turned"),
    (ex.check_spearman, lambda r, g: 1 - spearman(r, g), "one minus"),
    (ex.check_spearman, lambda r, g: 0.0, "should be"),
]  # fmt: skip


@pytest.mark.parametrize("check, answer, lesson", FAMOUS)
def test_famous_errors_are_named(check, answer, lesson):
    verdict = check(answer)
    assert not verdict.passed and lesson in verdict.message, verdict


def test_the_library_passes_its_own_exercises():
    from clipedu.geometry import build_geometry

    def library(c):
        return build_geometry("lorentz", 3, curvature=c).double()

    assert ex.check_expmap0(lambda u, c: library(c).expmap0(u).detach()).passed

    def library_distance(x, y, c):
        u, v = (library(c).logmap0(side)[None] for side in (x, y))
        return library(c).distance(u, v).item()

    assert ex.check_lorentz_distance(library_distance).passed
    assert ex.check_half_aperture(lambda x, k, c: library(c).half_aperture(library(c).logmap0(x), k).item()).passed


def test_the_gap_that_is_free_under_d_squared_costs_under_d():
    message = ex.check_open_gap(open_gap).message
    before, after = (float(number.rstrip(".")) for number in message.split("not free: ")[1].split(" -> "))
    assert after > before + 0.01
