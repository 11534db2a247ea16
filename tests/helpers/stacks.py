"""Runs in a stack beside the same runs by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from clipedu.config.experiment import Experiment
from clipedu.training.records import Record
from clipedu.training.setup import prepare, prepare_beside
from clipedu.training.stacked import Stack, StackedRecord
from clipedu.training.trainer import Trainer

RATES = {"sgd": 0.05, "sgdw": 0.05, "sgdc": 0.05, "lion": 3e-4, "lionc": 3e-4}
OPTIONS = {
    **dict.fromkeys(("adam", "adamw", "adamc"), [{}, {"betas": [0.8, 0.98], "eps": 1e-6}, {"betas": [0.9, 0.95]}]),
    **dict.fromkeys(("sgd", "sgdw", "sgdc"), [{}, {"momentum": 0.7}, {}]),
    **dict.fromkeys(("lion", "lionc"), [{}, {"betas": [0.85, 0.95]}, {}]),
}
CONSTANTS = {
    "cyclip": [{}, {"cross": 0.5}, {"in_modal": 0.1}],
    "vicreg": [{}, {"invariance": 10.0}, {"covariance": 2.0}],
    "siglip": [{}, {"bias": -5.0}, {}],
    "sogclr": [{}, {"gamma": 0.5}, {"gamma": 1.0}],
    "onlineclr": [{}, {"gamma": 0.5}, {"positive_temperature": 1.0}],
    "isogclr": [{}, {"eta": 0.01}, {"rho": 2.0}],
}


def variants(base: Experiment, loss: str, optimizer: str) -> list[Experiment]:
    """Three experiments of one stack that differ in all that may differ but the seed."""
    lr, hot = RATES.get(optimizer, 3e-3), 0.03 if loss == "isogclr" else 0.2
    options, constants = OPTIONS[optimizer], CONSTANTS.get(loss, [{}, {}, {}])
    own = [
        {"lr": lr, "weight_decay": 0.02},
        {"lr": lr / 2, "weight_decay": 0.5, "warmup": 0.4, "temperature": hot},
        {"lr": lr / 3, "weight_decay": 0.0, "schedule": "constant", "clip_grad": 0.05, "temperature": 0.05},
    ]
    return [
        base.replace(loss=loss, optimizer=optimizer, optimizer_options=o, loss_options=c, **one)
        for one, o, c in zip(own, options, constants, strict=True)
    ]


@dataclass
class SideBySide:
    """The same runs by themselves and in a stack, after training."""

    alone: list[Trainer]
    records: list[list[Record]]
    stack: Stack
    stacked: list[StackedRecord]


def side_by_side(experiments: Sequence[Experiment], data) -> SideBySide:
    """Train experiments both ways; those of one seed share their encoders."""
    first: dict[int, Trainer] = {}
    for ex in experiments:
        if ex.seed not in first:
            first[ex.seed] = prepare(ex, data, progress=False)
    alone = [prepare_beside(first[ex.seed], ex) for ex in experiments]
    records = [list(trainer.run()) for trainer in alone]
    stack = Stack([prepare_beside(first[ex.seed], ex) for ex in experiments])
    stacked = list(stack.run())
    stack.part_ways()
    return SideBySide(alone, records, stack, stacked)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """How far two tensors differ, relative to the length of the first; infinite numbers must be the same."""
    one, other = one.detach(), other.detach()
    finite = one.isfinite()
    assert torch.equal(one[~finite].nan_to_num(7), other[~finite].nan_to_num(7))
    one, other = one[finite].double(), other[finite].double()
    return float((one - other).norm() / one.norm().clamp(min=1e-30)) if one.numel() else 0.0


def largest_distance(both: SideBySide) -> float:
    """How far weights and memory differ, as the largest over runs and tensors."""
    return max(
        distance(value, there[name])
        for mine, its in zip(both.alone, both.stack.trainers, strict=True)
        for ours, there in (
            (mine.model.state_dict(), its.model.state_dict()),
            (mine.loss.state_dict(), its.loss.state_dict()),
        )
        for name, value in ours.items()
        if value.is_floating_point()
    )


def largest_loss_distance(both: SideBySide) -> float:
    """How far the loss curves and their terms differ, relative to the largest term of the run."""
    worst = 0.0
    for run, records in enumerate(both.records):
        size = max(abs(value) for record in records for value in (record.loss, *record.terms.values()))
        for one, other in zip(records, both.stacked, strict=True):
            assert list(one.terms) == list(other.terms) and list(one.watch) == list(other.watch)
            assert one.lr == other.lr[run] and (one.step, one.epoch) == (other.step, other.epoch)
            found = [one.loss - other.loss[run], *(v - other.terms[k][run] for k, v in one.terms.items())]
            worst = max(worst, *(abs(float(value)) / size for value in found))
    return worst
