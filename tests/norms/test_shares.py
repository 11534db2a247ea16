"""Shares: read where the optimizer is known, measured where it is not, and nan where nobody can tell."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clipedu.norms import NormMonitor
from clipedu.norms.shares import Shares
from clipedu.optim import follow
from clipedu.plots.norms import plot_balance, plot_layers


class Warm(torch.optim.Optimizer):
    """Decays by lr lambda times the number of the step."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state["step"] = state.get("step", 0) + 1
                p.mul_(1 - state["step"] * group["lr"] * group["weight_decay"]).sub_(p.grad, alpha=group["lr"])


class Lingering(torch.optim.Optimizer):
    """Decay inside a momentum of normalised gradients."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.sub_(m.mul_(0.9).add_(p.grad / p.grad.norm() + group["weight_decay"] * p), alpha=group["lr"])


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"image": nn.Linear(5, 4), "text": nn.Linear(3, 4)}).double()


def train(net: nn.Module, optimizer, steps: int, monitor=None) -> list[dict[str, tuple]]:
    """Weights before and after each step, by name."""
    seen = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        for p in net.parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        before = {name: p.detach().clone() for name, p in net.named_parameters()}
        optimizer.step()
        seen.append({name: (before[name], p.detach().clone()) for name, p in net.named_parameters()})
    return seen


def test_the_rows_of_an_optimizer_that_is_measured():
    net = model()
    optimizer = Warm(net.parameters(), {"lr": 0.1, "weight_decay": 0.2})
    monitor = NormMonitor(net, optimizer)
    seen = train(net, optimizer, 4)
    rows = monitor.frame()
    assert set(rows["law"]) == {"decoupled"}
    for row in rows.itertuples():
        w, after = seen[row.step][row.layer]
        assert row.shrink == pytest.approx(0.02 * (row.step + 1), rel=1e-9)
        change = float(after.square().sum() - w.square().sum())
        assert row.alignment + row.injection + row.decay == pytest.approx(change, abs=1e-12)
        assert row.Lambda == pytest.approx(2 * 0.02 * sum(range(1, row.step + 2)))


def test_what_is_not_known_is_nan_and_the_rest_is_measured():
    net = model()
    optimizer = Lingering(net.parameters(), {"lr": 0.1, "weight_decay": 0.2})
    monitor = NormMonitor(net, optimizer)
    seen = train(net, optimizer, 3)
    rows = monitor.frame()
    assert set(rows["law"]) == {"not known"}
    unknown = ["shrink", "alignment", "injection", "decay", "cosine", "relative_update", "Lambda"]
    assert rows[unknown].isna().all().all() and not rows.drop(columns=unknown).isna().any().any()
    last = rows.query("step == 2").set_index("layer")
    for name, (w, after) in seen[2].items():
        assert last.loc[name, "update"] == pytest.approx(float((after - w).norm()))
    for quantity in ("weight", "relative_update", "cosine"):
        plot_layers(rows, quantity)
    plot_balance(rows, "image.weight")
    fresh = NormMonitor(net, optimizer)
    fresh.load_state(monitor.state())  # as a resumed run
    assert set(fresh.state()["Lambda"].values()) == {None}  # not NaN: the state is written as JSON
    fresh.load_state(fresh.state())
    train(net, optimizer, 1)
    assert fresh.frame()["Lambda"].isna().all()


def test_between_recorded_steps_the_share_follows_lr_times_lambda():
    net = model()
    optimizer = Warm(net.parameters(), {"lr": 0.1, "weight_decay": 0.2})
    monitor = NormMonitor(net, optimizer, every=3)
    train(net, optimizer, 4)
    last = monitor.frame().query("step == 3").iloc[0]
    assert last["shrink"] == pytest.approx(0.08) and last["Lambda"] == pytest.approx(2 * (3 * 0.02 + 0.08))


@pytest.mark.parametrize("monitor_first", [False, True])
def test_under_a_law_whichever_hook_was_built_first(monitor_first):
    net = model()
    optimizer = Warm(net.parameters(), {"lr": 0.1, "weight_decay": 0.2})
    monitor = NormMonitor(net, optimizer) if monitor_first else None
    follow(optimizer, "corrected")
    monitor = monitor or NormMonitor(net, optimizer)
    rates = (0.1, 0.05, 0.0, 0.02)
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        train(net, optimizer, 1)
    shares = monitor.frame().query("layer == 'image.weight'")["shrink"].tolist()
    assert shares == pytest.approx([(k + 1) * rate**2 / 0.1 * 0.2 for k, rate in enumerate(rates)])


def test_a_known_optimizer_is_never_probed(monkeypatch):
    from clipedu.optim import decay_probe

    monkeypatch.setattr(decay_probe, "twin_of", lambda *_: pytest.fail("probed"))
    net = model()
    for kind in (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD):
        optimizer = kind(net.parameters(), lr=0.1, weight_decay=0.2)
        monitor = NormMonitor(net, optimizer)
        train(net, optimizer, 2)
        law = "decoupled" if kind is torch.optim.AdamW else "coupled"
        assert set(monitor.frame()["law"]) == {law}


def test_a_weight_without_decay_or_without_the_optimizer():
    net = model()
    weights = [{"params": [net["image"].weight]}, {"params": [net["image"].bias], "weight_decay": 0.0}]
    optimizer = Warm(weights, {"lr": 0.1, "weight_decay": 0.2})
    monitor = NormMonitor(net, optimizer)
    train(net, optimizer, 1)
    rows = monitor.frame().set_index("layer")
    assert rows["law"].tolist() == ["decoupled", "none", "none", "none"]
    assert rows["shrink"].tolist() == pytest.approx([0.02, 0, 0, 0])
    shares = Shares(optimizer, list(net.parameters()))
    shares.before(recorded=True)
    assert shares.of(optimizer.param_groups[1], net["image"].bias) == ("none", 0.0)
