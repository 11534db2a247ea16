"""Scores during training, for validation.csv.

They are those that a finished run gets, on the same sets, of the model as it is in between: `evaluate_every` says when. The last row is
of the finished model. A run that keeps averaged weights has a second row each time. Nothing of it reaches the training:
the random state is put back, so that the trained weights are the same with and without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from clipedu.config.intervals import parse_interval
from clipedu.data.pairs import Pairs
from clipedu.evaluation.metrics import AVERAGED_PREFIX, METRICS
from clipedu.evaluation.scoring import average
from clipedu.runs.rows import cut_rows
from clipedu.runs.run import Run
from clipedu.training.trainer import Trainer
from clipedu.workflow.scoring import score_set

OnScores = Callable[[int, Mapping[str, float]], None]


class Validation:
    """The scores of a run while it is trained.

    Args:
        run: its validation.csv is written.
        trainer: of this run; its model is scored.
        sets: what to score on, as for the finished run.
        on_scores: of `clipedu.fit`.
    """

    def __init__(self, run: Run, trainer: Trainer, sets: Sequence[Pairs], on_scores: OnScores | None = None):
        self.run, self.trainer, self.sets, self.on_scores = run, trainer, sets, on_scores
        every = run.experiment.evaluate_every
        self._every = parse_interval(every, ("epoch",)).steps(trainer.steps_per_epoch) if every else None

    @property
    def due(self) -> bool:
        """Whether the model is to be scored after the step just done.

        After the last step it is not: the finished run is scored anyway.
        """
        step, every = self.trainer.step, self._every
        return every is not None and 0 < step < self.trainer.steps and step % every == 0 and not self._measured

    @property
    def _measured(self) -> bool:
        return bool((self.run.validation["step"] == self.trainer.step).any())

    def measure(self) -> float:
        """Score the model as it is now, and append the scores.

        Returns:
            the average of the model's own scores, in percent.
        Raises:
            NotFinite: a weight or an embedding is not finite.
            ClipeduError: the scores cannot be written.
        """
        device = self.trainer.device
        models = {"": self.trainer.model}
        if self.trainer.average is not None:
            models[AVERAGED_PREFIX] = self.trainer.average.model()
        metrics: dict[str, float] = {}
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for prefix, model in models.items():
                scores: dict[str, float] = {}
                for pairs in self.sets:
                    scores |= score_set(model, pairs, progress=False)[0]
                scores["average"] = average(scores)
                metrics |= {prefix + key: value for key, value in scores.items()}
        self._append(metrics)
        if self.on_scores is not None:
            rows = self.run.validation
            self.on_scores(int((rows["weights"] == "model").sum()), metrics)
        return metrics["average"]

    @property
    def is_best(self) -> bool:
        """Whether no model before this one had as good an average."""
        return self.run.best_step == self.trainer.step

    def add_final(self, metrics: Mapping[str, float]) -> None:
        """Append the scores of the finished run, as the last rows.

        Raises:
            ClipeduError: they cannot be written.
        """
        if self._every is not None:
            cut_rows(self.run.folder / "validation.csv", self.trainer.step)  # of a run that was killed just here
            self._append(metrics)

    def _append(self, metrics: Mapping[str, float]) -> None:
        import pandas as pd

        step = self.trainer.step
        rows = [
            {
                "step": step,
                "epoch": step / self.trainer.steps_per_epoch,
                "weights": weights,
                **{key: metrics[prefix + key] for key in METRICS if prefix + key in metrics},
            }
            for weights, prefix in (("model", ""), ("averaged", AVERAGED_PREFIX))
            if f"{prefix}average" in metrics
        ]
        self.run.append_rows("validation", pd.DataFrame(rows))
