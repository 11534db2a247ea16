"""Sums that are taken inside a step, against naive ones in float64."""

from __future__ import annotations

import pytest

from clipedu.optim.blockwise import BlockAdam, BlockAdamW
from clipedu.optim.step_sums import EACH_STEP, WHOLE, StepSums
from tests.optim.test_blockwise import gradients, groups, weights


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", [BlockAdam, BlockAdamW])
def test_sums_of_each_tensor(kind, fused):
    some = weights()
    one = kind(groups(some, 0.1), lr=1e-2, fused=fused)
    one.sums = sums = StepSums()
    for step in range(4):
        gradients(some, step)
        before = [w.detach().double().clone() for w in some]
        sums.whole = step % 2 == 1
        one.step()
        assert sums.values.shape == (WHOLE if sums.whole else EACH_STEP, len(some))
        for w, old in zip(some, before, strict=True):
            g, d = w.grad.double(), w.detach().double() - old
            found, square = sums.values[:, sums.found[w]], one.state[w]["exp_avg_sq"].double()
            q = g / ((square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            lengths = [g, w.detach().double(), d, old, q][: 5 if sums.whole else 3]
            expected = [float(x.square().sum()) for x in lengths]
            assert found[: len(expected)].tolist() == pytest.approx(expected, rel=2e-6)
            if sums.whole:
                for value, (x, y) in zip(found[5:8], ((old, d), (old, q), (old, g)), strict=True):
                    assert value == pytest.approx(float((x * y).sum()), abs=3e-6 * float(x.norm() * y.norm()))
                assert found[8] == (square > 0).sum()
