"""Print what was left out of a set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipedu.runs.schema import read_sets


def print_left_out(name: str, skipped: Sequence[str], left_out: Sequence[str], where: str = "") -> None:
    """Print how much was left out, the reasons with examples, or nothing.

    Args:
        name: of set and split.
        skipped: a line for each sample.
        left_out: the same summed up; without it the first sample is shown.
        where: the file that names every sample, or "".
    """
    if skipped:
        print(f"{len(skipped)} samples of {name} were left out" + f" (all: {where})" * bool(where))
        for line in left_out or [f"e.g. {skipped[0]}"]:
            print(f"  {line}")


def print_left_out_of_run(folder: Path) -> None:
    """Print what was left out of each set of a run."""
    for pairs in read_sets(folder):  # "left_out" is not there in older runs
        name = f"{pairs['name']}/{pairs['split']}"
        print_left_out(name, pairs["skipped"], pairs.get("left_out", ()), f"{folder}/data.json")
