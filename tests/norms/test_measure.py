"""Sums inside a step and around it are the same, and which of them is taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipedu.norms.measure import StepMeasure
from clipedu.optim.blockwise import BlockAdam, BlockAdamW
from tests.optim.test_blockwise import PLAIN, gradients, groups, weights

NAMES = ("gradient", "after", "change", "before", "along", "minibatch")


def measured(kind, *, alone: bool = True, clip: bool = False, minibatch: bool = True):
    some = weights()
    optimizer = kind(groups(some[:-1], 0.1), lr=1e-2)  # the last one is not in the optimizer
    measure = StepMeasure(optimizer, some, minibatch=minibatch)
    laws = ["coupled" if PLAIN.get(kind, kind) is torch.optim.Adam and k % 2 == 0 else "none" for k in range(len(some))]
    seen = []
    for step in range(4):
        gradients(some, step)
        some[1].grad = None
        if clip:
            measure.observe_gradients()
            for w in some:
                if w.grad is not None:
                    w.grad *= 0.5
        measure.before(whole=step % 2 == 1, alone=alone)
        optimizer.step()
        seen.append(measure.after(laws, whole=step % 2 == 1))
    return optimizer, measure, seen


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("kind", PLAIN)
def test_both_ways_give_the_same(kind, clip):
    _, _, inside = measured(kind, clip=clip)
    _, _, around = measured(PLAIN[kind], clip=clip)
    for step, (one, other) in enumerate(zip(inside, around, strict=True)):
        for name in NAMES:
            x, y = getattr(one, name), getattr(other, name)
            assert (x is None) == (y is None) == (step % 2 == 0 and name not in NAMES[:3])
            if x is not None:
                size = np.abs(np.nan_to_num(y)).max(axis=-1, keepdims=True)
                np.testing.assert_allclose(
                    x, y, rtol=3e-6, atol=float(1e-7 * size.max()) if name != "minibatch" else 0.02
                )


def test_which_way_is_taken():
    optimizer, measure, _ = measured(BlockAdamW)
    assert measure._snapshot is None and optimizer.sums is measure._inside
    second = StepMeasure(optimizer, weights(), minibatch=False)  # somebody sums already
    assert second._inside is None
    measure.close()
    assert optimizer.sums is None
    _, other, _ = measured(BlockAdam, alone=False)  # another hook may change the weights after the step
    assert other._snapshot is not None
    assert measured(torch.optim.SGD, minibatch=False)[1]._snapshot is not None
