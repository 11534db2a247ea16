"""Steps by blocks are torch's own, to the last bit."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch

from clipedu.optim import build_optimizer
from clipedu.optim.adam_pieces import ALIGN
from clipedu.optim.blockwise import BlockAdam, BlockAdamW
from clipedu.optim.step_sums import StepSums

PLAIN = {BlockAdam: torch.optim.Adam, BlockAdamW: torch.optim.AdamW}
SHAPES = [(5,), (3, 7), (), (1,), (100, 200), (300, 301), (ALIGN,), (ALIGN + 1,), (2**16,), (2**16 - 1,)]


def weights() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    some = [torch.randn(shape, generator=generator) for shape in SHAPES]
    some += [
        torch.randn(shape, generator=generator).to(memory_format=torch.channels_last)
        for shape in ((4, 3, 3, 3), (50, 30, 7, 7))
    ]
    return [w.requires_grad_() for w in some]


def groups(some: list[torch.Tensor], decay: float) -> list[dict]:
    return [{"params": some[::2], "weight_decay": decay}, {"params": some[1::2], "weight_decay": 0.0}]


def gradients(some: list[torch.Tensor], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for w in some:
        w.grad = torch.randn(w.shape, generator=generator).to(w)
        if w.shape == (300, 301) and step < 3:  # rows that never occurred, then all of them, then some no more
            w.grad[: 250 if step else 300] = 0
        if w.shape == (2**16,) and step < 2:
            w.grad.zero_()


def train(one, some: list[torch.Tensor], steps: range) -> None:
    for step in steps:
        gradients(some, step)
        for group in one.param_groups:
            group["lr"] = 1e-3 * step
        one.step()


def same(ours, theirs, some, others) -> bool:
    return all(torch.equal(p, q) for p, q in zip(some, others, strict=True)) and all(
        torch.equal(ours.state[p][key], theirs.state[q][key])
        for p, q in zip(some, others, strict=True)
        for key in ("step", "exp_avg", "exp_avg_sq")
    )


@pytest.mark.parametrize(("measured", "threads"), [(False, 1), (True, 2)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", PLAIN)
def test_each_bit_is_that_of_torch(kind, decay, measured, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        some, others = weights(), weights()
        ours, theirs = kind(groups(some, decay)), PLAIN[kind](groups(others, decay))
        ours.sums = StepSums() if measured else None
        for first, last in pairwise((0, 3, 5)):
            train(ours, some, range(first, last))
            train(theirs, others, range(first, last))
            assert same(ours, theirs, some, others)
            assert ours._plan is not None
            ours.load_state_dict(copy.deepcopy(ours.state_dict()))  # as a resumed run does
    finally:
        torch.set_num_threads(before)


def test_states_go_from_one_to_the_other():
    """Also those of a checkpoint that has lost the order of memory."""
    some, others = weights(), weights()
    ours, theirs = BlockAdamW(groups(some, 0.1)), torch.optim.AdamW(groups(others, 0.1))
    train(theirs, others, range(3))
    train(ours, some, range(3))
    for one, other, mine, his in ((ours, theirs, some, others), (theirs, ours, others, some)):
        state = copy.deepcopy(other.state_dict())
        for values in state["state"].values():
            for key in ("exp_avg", "exp_avg_sq"):
                values[key] = values[key].contiguous()
        one.load_state_dict(state)
        train(ours, some, range(3, 5))
        train(theirs, others, range(3, 5))
        assert same(ours, theirs, some, others), (mine is his, "differ")


def test_fused_is_torchs_fused_but_for_rounding():
    some, others = weights(), weights()
    ours, theirs = BlockAdamW(groups(some, 0.1), fused=True), torch.optim.AdamW(groups(others, 0.1), fused=True)
    for step in range(4):
        for one, tensors in ((ours, some), (theirs, others)):
            gradients(tensors, step)
            for w in tensors:  # torch's fused kernel goes by the order of memory, whatever the strides say
                w.grad = torch.empty_like(w).copy_(w.grad)
            one.step()
    assert ours._plan is not None
    for p, q in zip(some, others, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7)


def double(some):
    return [w.detach().double().requires_grad_() for w in some]


@pytest.mark.parametrize(
    "options", [{"amsgrad": True}, {"maximize": True}, {"foreach": True}, {"eps": 0.0}, {"lr": torch.tensor(1e-3)}]
)
def test_what_is_not_written_by_blocks_goes_torchs_way(options):
    some, others = weights(), weights()
    ours, theirs = BlockAdamW(some, **options), torch.optim.AdamW(others, **options)
    asked = []
    ours.sums = StepSums(lambda: asked.append(1))
    for step in range(2):
        gradients(some, step + 3)
        gradients(others, step + 3)
        ours.step()
        theirs.step()
    assert ours._plan is None and len(asked) == 2
    assert all(torch.equal(p, q) for p, q in zip(some, others, strict=True))


def test_other_dtypes_missing_gradients_and_uneven_counts():
    some, others = weights(), weights()
    ours, theirs = BlockAdamW(double(some)), torch.optim.AdamW(double(others))
    mine, his = ours.param_groups[0]["params"], theirs.param_groups[0]["params"]
    train(ours, mine, range(2))
    train(theirs, his, range(2))
    assert ours._plan is None and same(ours, theirs, mine, his)

    ours, theirs = BlockAdamW(some), torch.optim.AdamW(others)
    for step, missing in enumerate((None, 3, None, 0)):  # in the last two steps tensors have different counts
        for one, tensors in ((ours, some), (theirs, others)):
            gradients(tensors, step)
            if missing is not None:
                tensors[missing].grad = None
            one.step()
    assert same(ours, theirs, some, others)


def test_a_weight_that_moves_in_memory_and_one_that_is_added():
    some, others = weights(), weights()
    ours, theirs = BlockAdamW(some[:4]), torch.optim.AdamW(others[:4])
    for one, tensors in ((ours, some), (theirs, others)):
        train(one, tensors[:4], range(2))
        tensors[0].data = tensors[0].data.clone()
        one.add_param_group({"params": [tensors[4]]})
        train(one, tensors[:5], range(2, 3))
        one.state[tensors[1]]["exp_avg"] = torch.zeros_like(tensors[1])
        train(one, tensors[:5], range(3, 5))
    assert all(torch.equal(p, q) for p, q in zip(some, others, strict=True))


def test_closures_copies_and_names():
    w = torch.zeros(3, requires_grad=True)
    one = BlockAdamW([w], lr=0.1)
    w.grad = torch.ones(3)
    assert one.step(lambda: 5.0) == 5.0 and w.tolist() == pytest.approx([-0.1] * 3)
    one.sums = StepSums()
    other = copy.deepcopy(one)
    assert other.sums is None and other._plan is None
    model = torch.nn.Linear(2, 2)
    assert type(build_optimizer(model, "adamw", lr=1.0)) is type(build_optimizer(model, "adamc", lr=1.0)) is BlockAdamW
    assert type(build_optimizer(model, "adam", lr=1.0)) is BlockAdam
