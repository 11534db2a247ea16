"""Is all that a run keeps readable?

This is asked before a table of many runs is made.
"""

from __future__ import annotations

from clipedu.runs.run import Run
from clipedu.runs.schema import read_frame
from clipedu.utils.errors import ClipeduError

TABLES = ("history", "norms", "layers")


def check_tables(run: Run) -> None:
    """Check that the tables of a run can be read: training goes on from them.

    Args:
        run: as loaded.
    Raises:
        ClipeduError: one is damaged; names file, column and line.
    """
    for name in TABLES:  # not those that the run holds: with its layers it would hold much
        read_frame(run.folder, name)


def check_files(run: Run) -> None:
    """Check that all can be read that reports and studies read of a run.

    What is not there yet does not count; checkpoints have a check of their own (`clipedu.runs.checkpoint`).

    Args:
        run: as loaded, so that its settings, status and scores are checked already.
    Raises:
        ClipeduError: a file is damaged; names it and what is wrong.
    """
    from clipedu.runs.token_files import kept_tokens

    check_tables(run)
    _check_steps(run)
    run.sets()
    run.embeddings()
    kept_tokens(run.folder)
    _ = run.command


def _check_steps(run: Run) -> None:
    """Check that the tables of steps go as far as the run that was scored; runs of older versions do not say how far."""
    for name in ("history", "norms") if run.scored else ():
        steps = read_frame(run.folder, name)["step"]
        done = int(steps.max()) + 1 if len(steps) else 0
        if done != run.scored:
            raise ClipeduError(f"{run.folder / name}.csv is cut: it has {done} steps, and the run has {run.scored}")
