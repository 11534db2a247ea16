"""The bench: its peers compute what we compute, and its table holds what it measured."""

import argparse
import json
import subprocess
import sys

import pytest
import torch

from clipedu.bench.losses import AGAINST, bench_losses
from clipedu.bench.measure import in_turn, peak
from clipedu.bench.norms import OBSERVERS, bench_norms
from clipedu.bench.peers import GAMMA, TEMPERATURE, contender
from clipedu.cli.bench import add_bench
from clipedu.losses import build_loss
from clipedu.utils.errors import ClipeduError

SIZE = 7


def batch(seed: int):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(SIZE, 5, generator=generator).requires_grad_() for _ in range(2))
    return x, y, torch.randperm(SIZE, generator=generator)


@pytest.mark.parametrize("loss, source", AGAINST)
def test_a_peer_has_the_same_values_and_gradients_over_three_steps(loss, source):
    if source == "open_clip":
        pytest.importorskip("open_clip")
    theirs = contender(source, loss, SIZE)
    options = {"form": "course"} if loss in ("sogclr", "onlineclr") else {}
    ours = build_loss(loss, temperature=TEMPERATURE, num_samples=SIZE, **options)
    assert getattr(ours, "gamma", GAMMA) == GAMMA
    for seed in range(3):
        x, y, index = batch(seed)
        total = theirs(x, y, index)
        expected = ours(x, y, index).total
        assert total.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)
        for one, other in zip(torch.autograd.grad(total, (x, y)), torch.autograd.grad(expected, (x, y)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_our_contender_is_our_loss():
    x, y, index = batch(0)
    expected = build_loss("clip", temperature=TEMPERATURE)(x, y, index).total
    assert torch.equal(contender("clipedu", "clip", SIZE)(x, y, index), expected)


def test_in_turn_calls_both_alike_and_takes_the_median(monkeypatch):
    called, clock = [], {"ours": iter([9.0, 1.0, 5.0, 2.0]), "theirs": iter([9.0, 7.0, 3.0, 30.0])}

    def seconds(who: str) -> float:
        called.append(who)
        return next(clock[who])

    monkeypatch.setattr("clipedu.bench.measure._seconds", seconds)
    assert in_turn("ours", "theirs") == (2.0, 7.0)  # the first call of each was the warm-up, and so slow that 3 must do
    assert called == ["ours", "theirs"] * 4


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
            counts.append(float(len(items)))
        return tuple(counts)

    monkeypatch.setattr("clipedu.bench.norms.in_turn", in_turn)
    rows = {
        row["observer"]: row for row in bench_norms(2, image_size=8, tokens=5, model=Towers(), write=lambda line: None)
    }
    assert (rows["loop"]["own"], rows["hooks"]["own"]) == (9, 3)  # of three tensors
    assert rows["loop"]["step"] - rows["none"]["step"] == 9 and rows["hooks"]["step"] - rows["none"]["step"] == 3


def test_a_bench_of_nothing_is_refused():
    for name, options in (
        ("batch_size", {"batch_size": 1}),
        ("image_size", {"image_size": 0}),
        ("threads", {"threads": 0}),
    ):
        with pytest.raises(ClipeduError, match=f"{name} must be at least"):
            bench_norms(**options)


def test_the_table_holds_what_was_measured():
    pytest.importorskip("open_clip")
    lines = []
    rows = bench_losses([6, 8], dim=4, large=0, threads=1, write=lines.append)
    assert [(row["loss"], row["against"], row["batch"]) for row in rows] == [
        (*pair, b) for b in (6, 8) for pair in AGAINST
    ]
    assert all(row["ratio"] == row["ours"] / row["theirs"] > 0 for row in rows)
    text = "\n".join(lines)
    assert f"torch {torch.__version__.split('+')[0]}" in text and "1 of " in text and "D 4" in text
    assert f"| cyclip | course | 8 | {1e3 * rows[-3]['ours']:.2f} | {1e3 * rows[-3]['theirs']:.2f} |" in text


def test_peak_memory_of_a_fresh_process():
    """Twice the rows: four times the matrix. Plain CLIP keeps a few matrices of 16 MiB (B 2,048) or 64 MiB (B 4,096)."""
    small, large = (
        peak(source="clipedu", loss="clip", batch=b, dim=8, device="cpu", threads=1)["bytes"] for b in (2048, 4096)
    )
    assert 16 * 2**20 < small < 20 * 16 * 2**20
    assert 2.5 < large / small < 5


def test_what_can_be_mended_is_one_line(monkeypatch):
    with pytest.raises(ClipeduError, match="at least 2 pairs, got .*1"):
        bench_losses([1])
    with pytest.raises(ClipeduError, match="threads must be at least 1, got 0"):
        bench_losses([4], threads=0)
    with pytest.raises(ClipeduError, match="^clip of clipedu at a batch of 1 failed: .*at least 2"):
        peak(source="clipedu", loss="clip", batch=1, dim=8, device="cpu", threads=1)
    monkeypatch.setitem(sys.modules, "open_clip", None)
    monkeypatch.setitem(sys.modules, "open_clip.loss", None)
    with pytest.raises(ClipeduError, match="not installed: pip install open_clip_torch"):
        bench_losses([4])


def test_the_command_is_light_to_add_and_passes_its_options_on(monkeypatch):
    code = """
import argparse, json, sys
from clipedu.cli.bench import add_bench
add_bench(argparse.ArgumentParser().add_subparsers())
print(json.dumps("torch" in sys.modules))"""
    assert json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) is False
    parser, seen = argparse.ArgumentParser(), {}
    add_bench(parser.add_subparsers())
    monkeypatch.setattr("clipedu.bench.losses.bench_losses", lambda sizes, **options: seen.update(options, sizes=sizes))
    line = "bench losses --batch-sizes 4 8 --dim 3 --large 0 --threads 2"
    given = parser.parse_args(line.split())
    given.command(given)
    assert seen == {"sizes": [4, 8], "dim": 3, "large": 0, "threads": 2}
    seen.clear()
    monkeypatch.setattr("clipedu.bench.norms.bench_norms", lambda size, **options: seen.update(options, size=size))
    given = parser.parse_args(["bench", "norms", "--batch-size", "6", "--image-size", "96", "--tokens", "9"])
    given.command(given)
    assert seen == {"size": 6, "image_size": 96, "tokens": 9, "threads": None}
