"""`RunRecorder`: a run's rows, written into its folder."""

from __future__ import annotations

from typing import Any

from clipedu.runs.run import Run
from clipedu.training.trainer import Trainer


def _append(rows: dict[str, Any], record) -> None:
    rows["history"].append(
        {
            "step": record.step,
            "epoch": record.epoch,
            "lr": record.lr,
            "loss": record.loss,
            **{f"loss/{name}": value for name, value in record.terms.items()},
            **record.watch,
            "pairs_per_second": record.pairs_per_second,
            "seconds": record.seconds,
        }
    )
    rows["norms"] += [{"step": record.step, "part": part, **norms} for part, norms in record.norms.items()]


def _rows_until(run: Run, step: int) -> dict[str, Any]:
    """What an earlier part of the run has written, up to the checkpoint's step."""
    frames = {"history": run.history, "norms": run.norms}
    rows = {name: frame[frame["step"] < step].to_dict("records") for name, frame in frames.items()}
    return rows | {"layers": run.layers[run.layers["step"] < step]}  # too many for dicts


def _frames(run: Run, trainer: Trainer, rows: dict[str, Any]) -> None:
    """Write all rows so far; those of layers are what an earlier part of the run wrote, and what the monitor has since.

    Of a step that failed, and so gave no record, the monitor has rows too: they are left out.
    """
    import pandas as pd

    layers = trainer.monitor.frame()
    layers = layers[layers["step"] <= (rows["history"][-1]["step"] if rows["history"] else -1)]
    if len(rows["layers"]):
        layers = pd.concat([rows["layers"], layers], ignore_index=True)
    run.save_frames(pd.DataFrame(rows["history"]), pd.DataFrame(rows["norms"]), layers)


def _save(run: Run, trainer: Trainer, rows: dict[str, Any]) -> None:
    run.seconds = trainer.seconds
    _frames(run, trainer, rows)
    run.save_checkpoint(trainer.step, trainer.model, trainer.state())
