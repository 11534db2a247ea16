"""The monitor sees what naive loops see, and changes nothing."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch
from torch import nn

from clipedu.norms import QUANTITIES, NormMonitor
from clipedu.optim import build_optimizer
from clipedu.utils.errors import ClipeduError


class Model(nn.Module):
    """Names as a dual encoder has them: parts "image", "text" and one of its own."""

    def __init__(self, frozen: bool = False):
        super().__init__()
        torch.manual_seed(0)
        self.image_encoder = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(16, 5))
        self.image_projection = nn.Linear(5, 6)
        self.text_projection = nn.Linear(7, 6)
        self.unused_head = nn.Linear(3, 3)
        if frozen:
            self.image_encoder.requires_grad_(False)
        self.double()

    def loss(self, step: int):
        g = torch.Generator().manual_seed(step)
        x, y = (torch.randn(8, *s, generator=g, dtype=torch.float64) for s in ((3, 3, 3), (7,)))
        return (self.image_projection(self.image_encoder(x)) - self.text_projection(y)).square().mean()


def naive_norm(tensors) -> float:
    return math.sqrt(sum(float(value) ** 2 for tensor in tensors for value in tensor.detach().flatten()))


def of_part(named: dict, part: str) -> list:
    return [tensor for name, tensor in named.items() if part == "all" or name.startswith(part)]


def run(model, optimizer, steps: int = 3, clip: float | None = None, monitor: NormMonitor | None = None):
    """The usual loop, with norms by naive loops: a list of {quantity: {name: tensor}} a step."""
    seen = []
    for step in range(steps):
        optimizer.zero_grad()
        model.loss(step).backward()
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        grads = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in named.items()}
        if clip is not None:
            if monitor is not None:
                monitor.observe_gradients()
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        before = {name: p.detach().clone() for name, p in named.items()}
        optimizer.step()
        after = {name: p.detach().clone() for name, p in named.items()}
        updates = {name: after[name] - before[name] for name in named}
        seen.append({"weight": after, "gradient": grads, "update": updates})
    return seen


def compare(monitor: NormMonitor, seen) -> None:
    rows = {(row.step, row.part): row for row in monitor.totals().itertuples()}
    assert len(rows) == len(seen) * len(monitor.parts) == len(monitor.totals())
    for step, quantities in enumerate(seen):
        for part in monitor.parts:
            for quantity in QUANTITIES:
                expected = naive_norm(of_part(quantities[quantity], part))
                assert getattr(rows[step, part], quantity) == pytest.approx(expected, rel=1e-12, abs=1e-15), (
                    step,
                    part,
                    quantity,
                )


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("clip", [None, 1e-3])
def test_as_naive_loops_see_it(name, clip):
    model = Model()
    optimizer = build_optimizer(model, name, lr=0.1, weight_decay=0.5)
    with NormMonitor(model, optimizer) as monitor:
        seen = run(model, optimizer, clip=clip, monitor=monitor)
    assert monitor.parts == ["all", "image", "text", "unused"]
    compare(monitor, seen)


def test_frozen_parts_are_not_watched():
    model = Model(frozen=True)
    optimizer = build_optimizer(model, "adamw", lr=0.1)
    monitor = NormMonitor(model, optimizer)
    seen = run(model, optimizer)
    compare(monitor, seen)
    assert not any(name.startswith("image_encoder") for name in seen[0]["weight"])


def test_a_parameter_without_a_gradient_counts_as_zero():
    model = Model()
    optimizer = build_optimizer(model, "sgd", lr=0.1, weight_decay=0.5)
    monitor = NormMonitor(model, optimizer)
    run(model, optimizer, steps=1)
    row = monitor.totals().set_index("part").loc["unused"]
    assert (row["gradient"], row["update"]) == (0, 0) and row["weight"] > 0


def test_laws_of_plain_sgd():
    model = Model()
    optimizer = build_optimizer(model, "sgd", lr=0.25, momentum=0.0, nesterov=False)
    monitor = NormMonitor(model, optimizer)
    run(model, optimizer)
    frame = monitor.totals()
    assert frame["update"].to_numpy() == pytest.approx(0.25 * frame["gradient"].to_numpy(), rel=1e-9)
    parts = frame.pivot(index="step", columns="part", values="weight")
    assert parts["all"].to_numpy() == pytest.approx(
        (parts[["image", "text", "unused"]] ** 2).sum(axis=1).to_numpy() ** 0.5
    )


def test_the_update_includes_weight_decay():
    model = Model()
    optimizer = build_optimizer(model, "adamw", lr=0.1, weight_decay=2.0)
    monitor = NormMonitor(model, optimizer)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    before = naive_norm(matrices)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    frame = monitor.totals().set_index("part")
    assert frame.loc["all", "gradient"] == 0
    assert frame.loc["all", "update"] == pytest.approx(0.1 * 2.0 * before, rel=1e-9)


def test_observed_before_clipping_only_when_asked():
    def first_gradient(observe: bool) -> float:
        model = Model()
        optimizer = build_optimizer(model, "sgd", lr=0.1)
        monitor = NormMonitor(model, optimizer)
        run(model, optimizer, steps=1, clip=1e-3, monitor=monitor if observe else None)
        return float(monitor.latest[QUANTITIES.index("gradient"), 0])

    assert first_gradient(observe=False) == pytest.approx(1e-3, rel=1e-2)
    assert first_gradient(observe=True) > 0.1


@pytest.mark.parametrize("name", ["sgd", "adam", "adamc"])
def test_watching_changes_nothing(name):
    def trained(watch: bool):
        model = Model()
        torch.manual_seed(1)
        optimizer = build_optimizer(model, name, lr=0.1, weight_decay=0.1)
        monitor = NormMonitor(model, optimizer, spectral=True) if watch else None
        run(model, optimizer, steps=4, clip=0.5, monitor=monitor)
        return [*(p.detach().clone() for p in model.parameters()), torch.rand(3)]

    assert all(torch.equal(a, b) for a, b in zip(trained(True), trained(False), strict=True))


def test_the_context_takes_its_hooks_away():
    model = Model()
    optimizer = build_optimizer(model, "sgd", lr=0.1)
    with NormMonitor(model, optimizer) as monitor:
        run(model, optimizer, steps=2)
    run(model, optimizer, steps=2)
    monitor.close()  # a second time does no harm
    assert monitor.totals()["step"].tolist() == [0] * 4 + [1] * 4
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_the_frame_is_tidy_and_counts_from_first_step():
    model = Model()
    optimizer = build_optimizer(model, "sgd", lr=0.1)
    monitor = NormMonitor(model, optimizer)
    assert list(monitor.totals().columns) == ["step", "part", *QUANTITIES] and len(monitor.totals()) == 0
    monitor.first_step = 70
    run(model, optimizer, steps=2)
    frame = monitor.totals()
    assert list(frame.columns) == ["step", "part", *QUANTITIES]
    assert frame["step"].tolist() == [70] * 4 + [71] * 4
    assert frame["part"].tolist() == ["all", "image", "text", "unused"] * 2
    assert monitor.latest.shape == (3, 4)
    assert monitor.latest[:, 0].tolist() == frame.iloc[4][list(QUANTITIES)].tolist()


def test_taken_in_parts_the_frame_is_the_same():
    frames = []
    for parts in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        monitor = NormMonitor(model, torch.optim.AdamW(model.parameters(), lr=0.1), every=2, minibatch=True)
        taken = []
        for step in range(7):
            model(torch.full((4, 3), float(step))).square().sum().backward()
            monitor._optimizer.step()
            monitor._optimizer.zero_grad()
            if parts and step in (0, 1, 4):
                taken.append(monitor.take())
        taken.append(monitor.take())
        assert not len(monitor.frame()) and len(monitor.totals()) == 7 * len(monitor.parts)
        frames.append(pd.concat(taken, ignore_index=True))
    pd.testing.assert_frame_equal(*frames, check_dtype=False)
    assert frames[0]["step"].unique().tolist() == [0, 2, 4, 6]


def test_any_optimizer_and_any_model():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.1)
    with NormMonitor(model, optimizer) as monitor:
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert monitor.parts == ["all", "weight", "bias"]
    assert monitor.totals().set_index("part").loc["bias", "gradient"] == pytest.approx(math.sqrt(2))


def test_nothing_to_watch():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ClipeduError, match="nothing to watch: no parameter of this Linear requires a gradient"):
        NormMonitor(model.requires_grad_(False), optimizer)


def test_parts_are_summed_as_named():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2), nn.Linear(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with NormMonitor(model, optimizer, parts={"0": "in", "2": "out"}) as monitor:
        model(torch.ones(4, 2)).sum().backward()
        optimizer.step()
    assert monitor.parts == ["all", "in", "other", "out"]
    totals, rows = monitor.totals().set_index("part"), monitor.frame()
    for part in ("in", "other", "out"):
        expected = (rows[rows["part"] == part]["weight"] ** 2).sum() ** 0.5
        assert totals.loc[part, "weight"] == pytest.approx(expected)
    with pytest.raises(ClipeduError, match="unknown beginning of a name in parts=.*: '7'"):
        NormMonitor(model, optimizer, parts={"7": "none"})
