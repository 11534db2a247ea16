"""Seconds are medians of calls in turn; bytes are those of one step in a process of its own."""

import json
import subprocess
import sys

import pytest
import torch

from clipedu.bench import measure
from clipedu.bench.measure import in_turn, machine, peak, step_of
from clipedu.utils.errors import ClipeduError


def test_in_turn_calls_both_alike_and_takes_the_median(monkeypatch):
    called, clock = [], {"ours": iter([9.0, 1.0, 5.0, 2.0]), "theirs": iter([9.0, 7.0, 3.0, 30.0])}

    def seconds(who: str) -> float:
        called.append(who)
        return next(clock[who])

    monkeypatch.setattr("clipedu.bench.measure._seconds", seconds)
    assert in_turn("ours", "theirs") == (2.0, 7.0)  # the first call of each was the warm-up, and so slow that 3 must do
    assert called == ["ours", "theirs"] * 4


@pytest.mark.parametrize("seconds, repeats", [(10.0, 3), (0.1, 10), (1e-6, 50)])
def test_slow_steps_are_repeated_less_often(monkeypatch, seconds, repeats):
    called = []
    monkeypatch.setattr(measure, "_seconds", lambda who: called.append(who) or seconds)
    in_turn("ours", "theirs")
    assert called.count("ours") == called.count("theirs") == 1 + repeats


def test_a_step_is_forward_and_backward_of_one_batch(monkeypatch):
    seen = []

    def contender(source, loss, num_samples, device):
        assert (source, loss, num_samples, device) == ("clipedu", "clip", 6, "cpu")
        return lambda image, text, index: seen.append((image, text, index)) or (image * text).sum()

    monkeypatch.setattr(measure, "contender", contender)
    step = step_of("clipedu", "clip", 6, 4, "cpu")
    for _ in range(2):
        step()
    image, text, index = seen[1]
    assert image.shape == text.shape == (6, 4) and index.tolist() == list(range(6))
    assert torch.equal(image.grad, text) and torch.equal(text.grad, image), "gradients of one step, not of two"


def test_the_machine_has_a_name():
    assert machine("cpu").strip()


def test_peak_memory_of_a_fresh_process():
    """Twice the rows: four times the matrix. Plain CLIP keeps a few matrices of 16 MiB (B 2,048) or 64 MiB (B 4,096)."""
    small, large = (
        peak(source="clipedu", loss="clip", batch=b, dim=8, device="cpu", threads=1)["bytes"] for b in (2048, 4096)
    )
    assert 16 * 2**20 < small < 20 * 16 * 2**20
    assert 2.5 < large / small < 5


def test_a_step_that_fails_is_one_line():
    with pytest.raises(ClipeduError, match="^clip of clipedu at a batch of 1 failed: .*at least 2"):
        peak(source="clipedu", loss="clip", batch=1, dim=8, device="cpu", threads=1)


def test_a_process_that_is_killed_ran_out_of_memory(monkeypatch):
    killed = subprocess.CompletedProcess([], returncode=-9, stdout="", stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: killed)
    with pytest.raises(ClipeduError, match="sogclr of clipedu at a batch of 4 failed: killed, probably"):
        peak(source="clipedu", loss="sogclr", batch=4, dim=8, device="cpu", threads=1)


def test_the_process_is_given_the_settings_as_json(monkeypatch):
    what = {"source": "course", "loss": "clip", "batch": 4, "dim": 8, "device": "cpu", "threads": 1}

    def run(command, **kwargs):
        assert command[:3] == [sys.executable, "-m", "clipedu.bench.measure"] and json.loads(command[3]) == what
        return subprocess.CompletedProcess(command, 0, stdout='{"bytes": 5, "seconds": 0.5}', stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    assert peak(**what) == {"bytes": 5, "seconds": 0.5}
