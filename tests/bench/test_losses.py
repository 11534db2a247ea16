"""The table of losses holds what was measured; settings that cannot be used are refused."""

import pytest
import torch

from clipedu.bench import losses
from clipedu.bench.losses import AGAINST, LARGE, bench_losses
from clipedu.utils.errors import ClipeduError


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


def test_peak_memory_is_compared_with_open_clip(monkeypatch):
    def peak(source, loss, **shared):
        assert shared == {"batch": 9, "dim": 4, "device": losses_device(), "threads": torch.get_num_threads()}
        return {"bytes": 4 * 2**20, "seconds": 2.0} if source == "open_clip" else {"bytes": 2**20, "seconds": 3.0}

    monkeypatch.setattr(losses, "peak", peak)
    monkeypatch.setattr(losses, "contender", lambda *args: None)
    monkeypatch.setattr(losses, "header", lambda *args: "")
    lines = []
    rows = bench_losses([], dim=4, large=9, write=lines.append)
    assert [row["loss"] for row in rows] == LARGE
    assert all((row["bytes_ratio"], row["ratio"]) == (0.25, 1.5) for row in rows)
    assert "| open_clip ClipLoss | 4 | 1 | 2.0 | 1 |" in lines[-1 - len(LARGE)]
    assert lines[-1] == f"| clipedu {LARGE[-1]} | 1 | **0.250** | 3.0 | **1.50** |"


def losses_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def test_the_number_of_threads_is_restored(monkeypatch):
    monkeypatch.setattr(losses, "contender", lambda *args: None)
    monkeypatch.setattr(losses, "header", lambda *args: 1 / 0)
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        bench_losses([4], threads=before + 1)
    assert torch.get_num_threads() == before


def test_settings_that_cannot_be_used_are_refused():
    with pytest.raises(ClipeduError, match="at least 2 pairs, got .*1"):
        bench_losses([1])
    for name in ("threads", "dim"):
        with pytest.raises(ClipeduError, match=f"{name} must be at least 1, got 0"):
            bench_losses([4], **{name: 0})


def test_no_batch_size_is_given_twice():
    with pytest.raises(ClipeduError, match="batch_sizes: 128 is given twice"):
        bench_losses([128, 256, 128])
