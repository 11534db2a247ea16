"""Observers of norms: the table holds what was measured, and each observer does what it should."""

import pytest
import torch

from clipedu.bench.norms import OBSERVERS, Nothing, bench_norms
from clipedu.utils.errors import ClipeduError


class Towers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.image_projection, self.text_projection = torch.nn.Linear(3, 4), torch.nn.Embedding(30_000, 4)

    def forward(self, pixels, ids):
        assert pixels.shape[1:] == (3, 8, 8) and ids.shape[1:] == (5,) and len(pixels) == len(ids)
        return (self.image_projection(pixels.mean(dim=(2, 3))) - self.text_projection(ids).mean(dim=1)).square().mean()


def test_the_table_of_observers_holds_what_was_measured(monkeypatch):
    lines, model = [], Towers()
    before = [p.detach().clone() for p in model.parameters()]
    rows = bench_norms(2, image_size=8, tokens=5, threads=1, model=model, write=lines.append)
    assert [row["observer"] for row in rows] == ["none", *OBSERVERS]
    plain, monitor, loop, hooks = rows
    assert all(row["step"] > 0 for row in rows) and plain["own"] == 0 < min(row["own"] for row in rows[1:])
    assert loop["against_loop"] == 1 and monitor["against_loop"] == monitor["own"] / loop["own"]
    assert hooks["share"] == hooks["own"] / plain["step"]
    text = "\n".join(lines)
    assert "0.1 million numbers in 3 tensors, batch 2, 8 px, 5 tokens" in text and "1 of " in text
    assert f"| monitor | {monitor['step']:.3f} | {1e3 * monitor['own']:.1f} | {monitor['share']:.1%} |" in text
    assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)), "it trained"


def test_observers_cost_what_they_do(monkeypatch):
    """With a clock that counts tensors brought to the host: two a tensor and step more than the hooks for the loop."""
    items = []
    original = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: items.append(1) or original(self))

    def in_turn(*peers):
        counts = []
        for peer in peers:
            items.clear()
            peer()
            counts.append(len(items) or 1e-12)  # a step may cost nothing by this clock, and is divided by
        return tuple(counts)

    monkeypatch.setattr("clipedu.bench.norms.in_turn", in_turn)
    rows = {
        row["observer"]: row for row in bench_norms(2, image_size=8, tokens=5, model=Towers(), write=lambda line: None)
    }
    assert (rows["loop"]["own"], rows["hooks"]["own"]) == (9, 3)  # of three tensors
    for observer, items_a_step in (("loop", 9), ("hooks", 3)):
        assert rows[observer]["step"] - rows["none"]["step"] == pytest.approx(items_a_step)


def test_an_optimizer_that_does_nothing():
    model = Towers()
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    assert Nothing(model).step() is None
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_a_bench_of_nothing_is_refused():
    for name, options in (
        ("batch_size", {"batch_size": 1}),
        ("image_size", {"image_size": 0}),
        ("threads", {"threads": 0}),
    ):
        with pytest.raises(ClipeduError, match=f"{name} must be at least"):
            bench_norms(**options)
