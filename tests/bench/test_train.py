"""The bench of training: its table holds what was measured, ours is the trainer."""

from __future__ import annotations

import pytest
import torch

from clipedu.bench import train
from clipedu.bench.loops import bare_loop
from clipedu.bench.train import CASES, Case, bench_train
from clipedu.utils.errors import ClipeduError
from tests.helpers.errors import message_of

SMALL = Case({"train_size": 20, "batch_size": 8, "device": "cpu"}, {"bare loop": bare_loop}, steps=2, rounds=2)


def test_the_table_holds_what_was_measured(monkeypatch):
    pytest.importorskip("open_clip")
    monkeypatch.setitem(train.CASES, "laptop", SMALL)
    monkeypatch.setattr(train, "_ceiling", lambda trainer: 1e9)
    lines, before = [], torch.get_num_threads()
    (row,) = bench_train(["laptop"], rounds=1, fused=True, write=lines.append)
    assert torch.get_num_threads() == before
    assert row["case"] == "laptop" and row["against"] == "bare loop" and row["threads"] == 1
    assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"])  # of one round
    assert row["low"] == row["ratio"] == row["high"] and row["processor"] > 0
    assert 0 < row["waited"] < 1 and row["ceiling"] > 0
    assert f"| laptop | 1 | {1e3 * row['ours']:.1f} | bare loop |" in "\n".join(lines)


def test_cases_that_make_no_sense():
    assert message_of(lambda: bench_train(["lap"])).startswith("unknown case 'lap'")
    assert "rounds=0" in message_of(lambda: bench_train(["laptop"], rounds=0))
    if not torch.cuda.is_available():
        with pytest.raises(ClipeduError, match="needs a GPU with CUDA"):
            bench_train(["course"])


def test_without_open_clip(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "open_clip.loss", None)
    assert "pip install open_clip_torch" in message_of(lambda: bench_train(["laptop"], write=print))


def test_blocks_have_a_step_with_rows_of_every_layer():
    for case in CASES.values():
        assert case.steps % 10 == 0 and case.settings.get("norms_every", 10) == 10
