"""`clipedu bench heads`: many settings of projections at once.

64 settings (learning rates x weight decays) at the sizes of the `laptop` preset, both towers frozen, features kept. A single run is
`clipedu.fit` without a report: it sets up, trains, scores and writes its folder. `clipedu.fit_heads` does all of that for all
settings, in stacks. Of the single runs a sample is timed, evenly over the settings; the two ways take turns, so that other load on
the machine meets both. Whole runs are compared, and their training alone. Each run of the sample must be equal to its own in the stack.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from clipedu.bench.measure import machine, print_line
from clipedu.config.experiment import Experiment
from clipedu.training.datasets import load_data
from clipedu.utils.errors import ClipeduError
from clipedu.utils.markdown import markdown_row, markdown_table

RATES, DECAYS = (3e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 7e-3, 1e-2), (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
AGREE = 1e-5  # relative difference of losses


def bench_heads(
    fit: Callable[..., Any],
    fit_heads: Callable[..., Any],
    *,
    settings: int = len(RATES) * len(DECAYS),
    sample: int = 8,
    rounds: int = 2,
    threads: Sequence[int] = (1, 2),
    base: Experiment | None = None,
    write: Callable[[str], None] = print_line,
) -> list[dict[str, Any]]:
    """Measure, write a Markdown table line by line, and return its rows.

    Args:
        fit, fit_heads: `clipedu.fit` and `clipedu.fit_heads`.
        settings: how many, of the grid of `RATES` and `DECAYS`.
        sample: how many single runs are timed in a round.
        rounds: how often each way has its turn.
        threads: of torch, one measurement for each.
        base: what all settings share; None is the `laptop` preset with frozen towers.
        write: called with each line; prints by default.

    Returns:
        dicts with threads, what ("whole runs" or "training"), single and stacked (seconds a run), ratio, processor (the same of
        processor time; of whole runs) and difference (largest relative one of the losses).

    Raises:
        ClipeduError: a number out of range, or runs that differ.
    """
    most = len(RATES) * len(DECAYS)
    for name, value, largest in (("settings", settings, most), ("sample", sample, settings), ("rounds", rounds, None)):
        if value < 1 or (largest is not None and value > largest):
            raise ClipeduError(f"{name}={value} must be at least 1" + (f" and at most {largest}" if largest else ""))
    base = base or Experiment.preset("laptop", image_frozen=True, text_frozen=True)
    grid = [base.replace(lr=rate, weight_decay=decay) for rate in RATES for decay in DECAYS]
    chosen = [grid[k * most // settings] for k in range(settings)]
    data = load_data(base)
    before = torch.get_num_threads()
    write(_header(settings, sample, rounds))
    write(
        markdown_table(["threads", "what", "single run, s", "stacked, s a run", "ratio", "processor", "difference"], [])
    )
    rows = []
    try:
        with tempfile.TemporaryDirectory() as scratch:
            options = {"data": data, "progress": False}
            fit(chosen[0], Path(scratch) / "first", report=False, **options)  # features, tokens, libraries
            fit_heads(chosen[:1], **options)
            for count in threads:
                torch.set_num_threads(count)
                turns = [
                    _turn(fit, fit_heads, chosen, sample, Path(scratch) / f"{count}-{k}", options)
                    for k in range(rounds)
                ]
                for row in _compared(turns, count):
                    rows.append(row)
                    write(_line(row))
    finally:
        torch.set_num_threads(before)
    return rows


def _turn(
    fit: Callable[..., Any],
    fit_heads: Callable[..., Any],
    chosen: list[Experiment],
    sample: int,
    folder: Path,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Time a sample of single runs, half before and half after all runs in stacks."""
    numbers = [k * len(chosen) // sample for k in range(sample)]
    singles: dict[int, Any] = {}
    spent = np.zeros((2, 2))

    def timed(way: int, call: Callable[[], Any]) -> Any:
        clock, processor = time.perf_counter(), time.process_time()
        found = call()
        spent[way] += time.perf_counter() - clock, time.process_time() - processor
        return found

    def single(number: int) -> None:
        where = folder / f"single-{number}"
        singles[number] = timed(0, lambda: fit(chosen[number], where, report=False, **options))

    for number in numbers[: sample // 2]:
        single(number)
    stacked = timed(1, lambda: fit_heads(chosen, folder / "stacked", **options))
    for number in numbers[sample // 2 :]:
        single(number)
    return {
        "whole": (spent[0] / sample, spent[1] / len(chosen)),
        "training": (mean(run.seconds for run in singles.values()), mean(run.seconds for run in stacked)),
        "difference": max(_difference(run.history, stacked[k].history) for k, run in singles.items()),
    }


def _difference(one: Any, other: Any) -> float:
    """Return the largest difference of two loss curves, relative to the largest loss."""
    return float((one["loss"] - other["loss"]).abs().max() / one["loss"].abs().max())


def _compared(turns: list[dict[str, Any]], threads: int) -> list[dict[str, Any]]:
    worst = max(turn["difference"] for turn in turns)
    if not worst <= AGREE:
        raise ClipeduError(
            f"the losses of a run in the stack differ from its single run's by {worst:.2g}, above {AGREE:g}"
        )
    whole = np.array([turn["whole"] for turn in turns]).mean(0)  # [way, clock and processor]
    training = np.array([turn["training"] for turn in turns]).mean(0)
    shared = {"threads": threads, "difference": worst}
    return [
        {
            **shared,
            "what": "whole runs",
            "single": float(whole[0, 0]),
            "stacked": float(whole[1, 0]),
            "ratio": float(whole[1, 0] / whole[0, 0]),
            "processor": float(whole[1, 1] / whole[0, 1]),
        },
        {
            **shared,
            "what": "training",
            "single": float(training[0]),
            "stacked": float(training[1]),
            "ratio": float(training[1] / training[0]),
            "processor": None,
        },
    ]


def _header(settings: int, sample: int, rounds: int) -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("clipedu", "torch"))
    return (
        f"{machine('cpu')}, {os.cpu_count()} cores; {versions}, Python {platform.python_version()}. {settings} settings in stacks, "
        f"beside {sample} of them as single runs, {rounds} times in turn; ratio = stacked / single, by the clock; processor = the "
        "same of processor time; difference = the largest of the losses, relative.\n"
    )


def _line(row: dict[str, Any]) -> str:
    processor = "" if row["processor"] is None else f"{row['processor']:.2f}"
    times = (f"{row['single']:.2f}", f"{row['stacked']:.3f}", f"**{row['ratio']:.2f}**")
    return markdown_row([str(row["threads"]), row["what"], *times, processor, f"{row['difference']:.0e}"])
