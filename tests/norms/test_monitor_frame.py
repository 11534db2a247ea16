"""The rows of a layer, against what a naive loop in float64 finds; and all that can happen to a step."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from clipedu.norms import COLUMNS, NormMonitor
from clipedu.norms import monitor as module
from clipedu.optim import OPTIMIZERS, build_optimizer, follow
from clipedu.optim.shrinkage import shrink
from clipedu.utils.errors import ClipeduError

COUPLED = {"sgd", "adam", "novograd", "radam", "adagrad", "rmsprop", "adamax", "lamb"}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image_encoder = nn.Sequential(nn.Conv2d(3, 8, 2, bias=False), nn.Flatten(), nn.Linear(32, 16))
        self.image_projection = nn.Linear(16, 6)
        self.text_embedding = nn.Embedding(9, 6)
        self.unused = nn.Linear(3, 3)
        self.double()

    def loss(self, step: int):
        g = torch.Generator().manual_seed(step)
        x = torch.randn(8, 3, 3, 3, generator=g, dtype=torch.float64)
        ids = torch.randint(9, (8,), generator=g)
        return (self.image_projection(self.image_encoder(x)) - self.text_embedding(ids)).square().mean()


def weights_of(model) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def train(model, optimizer, steps: int = 4, start: int = 0, rates=(0.03, 0.02, 0.01)):
    """Steps with a changing lr. Returns for each a dict by name: (w, w', gradient or None, share taken)."""
    seen = []
    for step in range(start, start + steps):
        for group in optimizer.param_groups:
            group["lr"] = rates[step % len(rates)]
        optimizer.zero_grad(set_to_none=True)
        model.loss(step).backward()
        before = weights_of(model)
        shares = {}

        def ask(*_, shares=shares):
            shares.update({p: shrink(optimizer, g, p) for g in optimizer.param_groups for p in g["params"]})

        hook = optimizer.register_step_pre_hook(ask)  # the last of all
        optimizer.step()
        hook.remove()
        after = weights_of(model)
        seen.append({n: (before[n], after[n], p.grad, shares.get(p, 0.0)) for n, p in model.named_parameters()})
    return seen


def expected_row(w, v, gradient, share) -> dict[str, float]:
    """Everything about one step of one tensor, typed out from the definitions."""
    share = share if gradient is not None else 0.0
    w, v = w.flatten(), v.flatten()
    u = (1 - share) * w - v  # lr u
    across = v - (v @ w) / (w @ w) * w
    size = float(w.norm() * u.norm())
    return {
        "weight": float(v.norm()),
        "gradient": 0.0 if gradient is None else float(gradient.norm()),
        "update": float((v - w).norm()),
        "cosine": float(w @ u) / size if size > 1e-12 else 0.0,
        "angle": math.atan2(float(across.norm()), float(v @ w / w.norm())),
        "relative_update": float(u.norm() / w.norm()),
        "alignment": float(-2 * (1 - share) * (w @ u)),
        "injection": float(u @ u),
        "decay": float(-(1 - (1 - share) ** 2) * (w @ w)),
        "shrink": share,
    }


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_each_number_as_a_naive_loop_finds_it(name):
    model = Model()
    law = {"decay_law": "corrected"} if "decay_law" in OPTIMIZERS[name].defaults else {}
    optimizer = build_optimizer(model, name, lr=0.03, weight_decay=0.7, **law)
    with NormMonitor(model, optimizer) as monitor:
        seen = train(model, optimizer)
    rows = {(row.step, row.layer): row._asdict() for row in monitor.frame().itertuples()}
    assert len(rows) == 4 * len(seen[0])
    for step, tensors in enumerate(seen):
        for layer, (w, v, gradient, share) in tensors.items():
            row = rows[step, layer]
            assert row["law"] in ("decoupled", "coupled", "none") or gradient is None
            assert (row["law"] == "coupled") <= (name in COUPLED)
            if math.isnan(share):  # measured, as is tested in `test_decay_probe.py`
                share = row["shrink"]
            for column, value in expected_row(w, v, gradient, share).items():
                assert row[column] == pytest.approx(value, rel=1e-9, abs=1e-12), (step, layer, column)
            change = float((v * v).sum() - (w * w).sum())
            assert row["alignment"] + row["injection"] + row["decay"] == pytest.approx(change, rel=1e-9, abs=1e-12)
            if name in COUPLED:
                assert row["shrink"] == row["decay"] == 0
    taken = monitor.frame().groupby("layer")["shrink"].max()
    assert (taken["image_encoder.0.weight"] > 0) == (name not in COUPLED) and taken["image_projection.bias"] == 0


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if n not in COUPLED])
def test_the_identity_closes_to_1e_12_of_the_squared_norm(name):
    model = Model()
    optimizer = build_optimizer(model, name, lr=0.03, weight_decay=0.7)
    monitor = NormMonitor(model, optimizer)
    seen = train(model, optimizer)
    for row in monitor.frame().itertuples():
        w, v, _, _ = seen[row.step][row.layer]
        error = row.alignment + row.injection + row.decay - float((v * v).sum() - (w * w).sum())
        assert abs(error) < 1e-12 * float((w * w).sum())


def test_columns_words_and_order():
    model = Model()
    optimizer = build_optimizer(model, "adamc", lr=0.03, weight_decay=0.7, betas=(0.8, 0.99))
    monitor = NormMonitor(model, optimizer)
    assert tuple(monitor.frame().columns) == COLUMNS and len(monitor.frame()) == 0
    train(model, optimizer, steps=2)
    frame = monitor.frame()
    assert tuple(frame.columns) == COLUMNS and not frame.isna().any().any()
    assert frame["step"].tolist() == [0] * 8 + [1] * 8
    assert frame["layer"].tolist() == [n for n, _ in model.named_parameters()] * 2
    first = frame[:8].set_index("layer")
    assert first["size"].tolist() == [p.numel() for p in model.parameters()]
    assert first.loc["image_projection.weight", ["part", "kind", "group"]].tolist() == ["image", "head", "head"]
    assert first.loc["image_encoder.0.weight", ["part", "kind", "group"]].tolist() == ["image", "matrix", "decayed"]
    assert first.loc["unused.bias", ["part", "kind", "group"]].tolist() == ["unused", "1-D", "not decayed"]
    assert (frame["effective_lr"] / frame["lr"]).tolist() == pytest.approx([math.sqrt(1.8 / 0.2)] * 16)
    second = frame[8:].set_index("layer")  # lr 0.02 of 0.03: lambda follows but for the head
    assert second.loc["image_encoder.0.weight", "weight_decay"] == pytest.approx(0.7 * 2 / 3)
    assert second.loc["image_projection.weight", "weight_decay"] == 0.7 and second["lr"].tolist() == [0.02] * 8


@pytest.mark.parametrize("monitor_first", [False, True])
def test_the_decay_of_the_step_itself_whichever_hook_was_built_first(monitor_first):
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03, weight_decay=0.7)
    monitor = NormMonitor(model, optimizer) if monitor_first else None
    follow(optimizer, "corrected")
    monitor = monitor or NormMonitor(model, optimizer)
    train(model, optimizer, steps=3)
    shrinks = monitor.frame().query("layer == 'image_encoder.0.weight'")["shrink"].tolist()
    assert shrinks == pytest.approx([lr**2 / 0.03 * 0.7 for lr in (0.03, 0.02, 0.01)], rel=1e-12)


def test_every_third_step_but_lambda_and_totals_count_all():
    def frames(every: int):
        model = Model()
        optimizer = build_optimizer(model, "adamw", lr=0.03, weight_decay=0.7)
        monitor = NormMonitor(model, optimizer, every=every)
        train(model, optimizer, steps=8)
        return monitor.frame(), monitor.totals()

    (all_rows, all_totals), (rows, totals) = frames(1), frames(3)
    assert sorted(set(rows["step"])) == [0, 3, 6]
    assert rows.equals(all_rows[all_rows["step"] % 3 == 0].reset_index(drop=True)) and totals.equals(all_totals)
    sums = 2 * 0.7 * (3 * 0.03 + 2 * 0.02 + 2 * 0.01)  # lr of steps 0 to 6
    assert rows.query("step == 6 and layer == 'image_encoder.0.weight'")["Lambda"].item() == pytest.approx(sums)
    assert rows.query("step == 6 and layer == 'image_encoder.2.bias'")["Lambda"].item() == 0
    with pytest.raises(ClipeduError, match="every=0 must be at least 1"):
        frames(0)


def test_a_run_in_two_parts_is_that_in_one():
    def part(model, optimizer, start: int, steps: int, state=None):
        with NormMonitor(model, optimizer, every=2) as monitor:
            monitor.first_step = start
            if state is not None:
                monitor.load_state(state)
            train(model, optimizer, steps=steps, start=start)
        return monitor

    def fresh():
        model = Model()
        return model, build_optimizer(model, "adamw", lr=0.03, weight_decay=0.7)

    whole = part(*fresh(), 0, 7).frame()
    model, optimizer = fresh()
    one = part(model, optimizer, 0, 3)
    two = part(model, optimizer, 3, 4, one.state())
    assert one.frame()["step"].unique().tolist() == [0, 2] and two.frame()["step"].unique().tolist() == [4, 6]
    both = torch.tensor(
        [*one.frame().select_dtypes("number").values.tolist(), *two.frame().select_dtypes("number").values.tolist()]
    )
    assert torch.equal(both, torch.tensor(whole.select_dtypes("number").values.tolist()))
    two.load_state({"Lambda": {"image_encoder.0.weight": 5.0}})
    assert two.state()["Lambda"] == {layer.name: 5.0 * (layer.name == "image_encoder.0.weight") for layer in two.layers}


def test_many_steps_leave_the_device_in_between(monkeypatch):
    def frames():
        model = Model()
        optimizer = build_optimizer(model, "adamw", lr=0.03, weight_decay=0.7)
        monitor = NormMonitor(model, optimizer)
        train(model, optimizer, steps=5)
        first = monitor.frame()
        train(model, optimizer, steps=2, start=5)
        assert monitor.frame()[:40].equals(first) and monitor.latest.shape == (3, 4)
        return monitor.frame(), monitor.totals()

    whole = frames()
    monkeypatch.setattr(module, "_KEPT_ON_DEVICE", 2)
    assert all(a.equals(b) for a, b in zip(frames(), whole, strict=True)) and len(whole[0]) == 7 * 8


def test_what_has_no_gradient_stands_still():
    model = Model()
    optimizer = build_optimizer(model, "adamw", lr=0.03, weight_decay=0.7)
    monitor = NormMonitor(model, optimizer)
    train(model, optimizer, steps=2)
    model.image_encoder.requires_grad_(False)  # frozen in the middle
    train(model, optimizer, steps=2, start=2)
    frame = monitor.frame().set_index(["layer", "step"])
    still = ["gradient", "update", "cosine", "angle", "relative_update", "alignment", "injection", "decay", "shrink"]
    assert (frame.loc["unused.weight", [*still, "Lambda"]] == 0).all().all()
    weight = frame.loc["image_encoder.0.weight"]
    assert (weight.loc[[2, 3], still] == 0).all().all() and (weight.loc[[0, 1], "shrink"] > 0).all()
    assert weight["Lambda"].tolist() == pytest.approx([0.042, 0.07, 0.07, 0.07]) and weight["weight"].nunique() == 2


def test_layers_that_join_the_optimizer_later():
    model = Model()
    rest = [p for p in model.parameters() if p is not model.image_encoder[2].weight]
    optimizer = torch.optim.AdamW(rest, lr=0.03, weight_decay=0.7)
    monitor = NormMonitor(model, optimizer)
    train(model, optimizer, steps=1)
    optimizer.add_param_group({"params": [model.image_encoder[2].weight], "weight_decay": 0.1})
    train(model, optimizer, steps=1)
    rows = monitor.frame().query("layer == 'image_encoder.2.weight'")
    assert rows["group"].tolist() == ["not in the optimizer", "group 1"]
    assert rows["shrink"].tolist() == pytest.approx([0, 0.003]) and rows["lr"].tolist() == [0, 0.03]
    assert rows["update"].iloc[0] == 0 < rows["gradient"].iloc[0] and rows["update"].iloc[1] > 0
    assert rows["effective_lr"].tolist() == pytest.approx([0, 0.03 * math.sqrt(19)])


def test_a_step_that_never_happens_is_not_recorded_and_one_that_does_nothing_takes_no_share():
    """A loss scaler that finds an overflow does not call `step`; with fused optimizers it does, and the step skips itself."""

    class Skipping(torch.optim.Optimizer):
        skip = False

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"] if not self.skip else ():
                    p.mul_(1 - group["lr"] * group["weight_decay"])

    model = Model()
    optimizer = Skipping(model.parameters(), {"lr": 0.03, "weight_decay": 0.7})
    monitor = NormMonitor(model, optimizer)
    train(model, optimizer, steps=1)
    model.loss(1).backward()
    monitor.observe_gradients()  # and no step
    optimizer.skip = True
    train(model, optimizer, steps=1, start=1)
    rows = monitor.frame().query("layer == 'image_encoder.0.weight'")
    assert rows["step"].tolist() == [0, 1] and rows["shrink"].tolist() == pytest.approx([0.021, 0])
    assert rows["Lambda"].tolist() == pytest.approx([0.042, 0.042])
    assert rows["injection"].tolist() == pytest.approx([0, 0], abs=1e-12) and rows["update"].iloc[1] == 0


class Own(torch.optim.SGD):
    """A step around that of its parent: torch runs the hooks of both. It halves the weights before and after."""

    broken = False

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            torch._foreach_mul_(group["params"], 0.5)
        super().step()
        if self.broken:
            raise KeyboardInterrupt
        for group in self.param_groups:
            torch._foreach_mul_(group["params"], 0.5)


def test_hooks_that_run_twice_make_one_row_of_the_whole_step():
    model = Model()
    optimizer = Own(model.parameters(), lr=0.03)
    monitor = NormMonitor(model, optimizer)
    seen = train(model, optimizer, steps=2)
    rows = monitor.frame().query("layer == 'image_encoder.2.weight'")
    assert rows["step"].tolist() == [0, 1]
    for row, tensors in zip(rows.itertuples(), seen, strict=True):
        w, v, _, _ = tensors["image_encoder.2.weight"]
        assert row.update == pytest.approx(float((v - w).norm()), rel=1e-12) and row.weight == pytest.approx(
            float(v.norm())
        )


def test_a_step_that_was_broken_off_costs_one_row_and_no_more():
    model = Model()
    optimizer = Own(model.parameters(), lr=0.03)
    monitor = NormMonitor(model, optimizer)
    train(model, optimizer, steps=1)
    optimizer.broken = True
    with pytest.raises(KeyboardInterrupt):
        train(model, optimizer, steps=1)
    optimizer.broken = False
    seen = train(model, optimizer, steps=4)
    rows = monitor.frame().query("layer == 'image_encoder.2.weight'")
    assert len(rows) in (4, 5)
    w, v, _, _ = seen[-1]["image_encoder.2.weight"]
    assert rows["update"].iloc[-1] == pytest.approx(float((v - w).norm()), rel=1e-12)


def test_accumulated_gradients_are_measured_as_the_optimizer_gets_them():
    model = Model()
    optimizer = build_optimizer(model, "adamw", lr=0.03)
    monitor = NormMonitor(model, optimizer)
    for step in range(3):
        (model.loss(step) / 3).backward()
    expected = model.image_encoder[2].weight.grad.norm().item()
    optimizer.step()
    row = monitor.frame().set_index("layer").loc["image_encoder.2.weight"]
    assert row["gradient"] == pytest.approx(expected, rel=1e-12)


def test_a_weight_of_length_zero_has_no_nan():
    model = Model()
    nn.init.zeros_(model.image_projection.weight)
    nn.init.zeros_(model.unused.weight)
    optimizer = build_optimizer(model, "adamw", lr=0.03, weight_decay=0.7)
    monitor = NormMonitor(model, optimizer, spectral=True)
    train(model, optimizer, steps=2)
    frame = monitor.frame()
    assert not frame.isna().any().any() and list(frame.columns) == [*COLUMNS, "spectral"]
    first = frame.set_index("layer").loc["image_projection.weight"].iloc[0]
    assert first["cosine"] == first["relative_update"] == first["angle"] == first["decay"] == 0 < first["injection"]
    assert frame.set_index("layer").loc["image_projection.weight", "spectral"].iloc[1] > 0


def move(w: torch.Tensor, step: torch.Tensor, dtype=torch.float64, **options) -> dict[str, float]:
    """The row of a parameter that one step of plain SGD takes from w to w - step."""
    model = nn.Linear(1, 1, bias=False)
    model.weight = nn.Parameter(w.to(dtype, copy=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with NormMonitor(model, optimizer, **options) as monitor:
        model.weight.grad = step.to(dtype)
        optimizer.step()
    return monitor.frame().iloc[0].to_dict()


@pytest.mark.parametrize("angle", [1e-9, 1e-6, 1e-3, 1.0, math.pi / 2, 3.0, math.pi - 1e-6])
def test_small_and_large_angles(angle):
    """arccos would see none of the small ones: their cosine is 1."""
    w, v = torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    w[0, 0], v[0, 0], v[1, 2] = 2.0, 2 * math.cos(angle), 2 * math.sin(angle)
    assert move(w, w - v)["angle"] == pytest.approx(angle, rel=1e-7)


def test_a_sideways_step_injects_and_one_along_the_weight_aligns():
    w = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    aside = move(w, torch.tensor([[0.8, -0.6]], dtype=torch.float64))
    assert (aside["cosine"], aside["alignment"], aside["injection"]) == pytest.approx((0, 0, 1), abs=1e-14)
    assert aside["relative_update"] == pytest.approx(0.2, rel=1e-6) and aside["weight"] == pytest.approx(
        26**0.5, rel=1e-6
    )
    along = move(w, 0.1 * w)
    assert (along["cosine"], along["alignment"], along["injection"]) == pytest.approx((1, -5, 0.25))
    assert along["angle"] == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_dtypes(dtype):
    generator = torch.Generator().manual_seed(0)
    w, step = torch.randn(40, 50, generator=generator), torch.randn(40, 50, generator=generator) / 8
    w, step = w.to(dtype), step.to(dtype)
    row, exact = move(w, step, dtype), expected_row(w.double(), (w - step).double(), step.double(), 0.0)
    for column, value in exact.items():
        assert row[column] == pytest.approx(value, rel=1e-5, abs=1e-6), column


def test_spectral_norms_of_the_weights_after_the_step():
    model = Model()
    optimizer = build_optimizer(model, "adamw", lr=0.03, weight_decay=0.7)
    monitor = NormMonitor(model, optimizer, every=2, spectral=True)
    train(model, optimizer, steps=3)
    last = monitor.frame().query("step == 2").set_index("layer")["spectral"]
    for name, p in model.named_parameters():
        matrix = p.detach().reshape(p.shape[0] if p.ndim > 1 else 1, -1)
        truth = torch.linalg.svdvals(matrix)[0].item()
        assert 0.97 * truth < last[name] <= truth * (1 + 1e-12)


def test_no_transfer_to_the_host_inside_a_step(monkeypatch):
    """On the way that GPUs take, nothing asks for a value until `frame` does."""
    from clipedu.norms import measure, snapshot

    monkeypatch.setattr(measure, "_is_host", lambda device: False)
    monkeypatch.setattr(snapshot, "_by_blocks", lambda tensor: False)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03, weight_decay=0.7, foreach=True)
    monitor = NormMonitor(model, optimizer)
    model.loss(0).backward()
    optimizer.step()  # makes its state
    asked = []
    for name in ("item", "tolist", "cpu", "numpy", "__float__", "__bool__"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, *a, n=name, o=original: (asked.append(n), o(self, *a))[1])
    monitor._pre()
    monitor._post()
    assert asked == []
    monitor.frame()
    assert "cpu" in asked


def test_both_ways_through_memory_give_the_same_frame(monkeypatch):
    from clipedu.norms import snapshot

    def frame():
        model = Model()
        optimizer = build_optimizer(model, "adamw", lr=0.03, weight_decay=0.7)
        monitor = NormMonitor(model, optimizer)
        train(model, optimizer)
        return monitor.frame()

    blocks = frame()
    monkeypatch.setattr(snapshot, "_by_blocks", lambda tensor: False)
    foreach = frame()
    for column in COLUMNS[6:]:
        assert foreach[column].tolist() == pytest.approx(blocks[column].tolist(), rel=1e-7, abs=1e-9), column
