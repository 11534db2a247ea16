"""What a sweep has found, and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.config.experiment import Experiment
from clipedu.report.sweep_page import write_sweep_report
from clipedu.runs.run import Run
from clipedu.studies.sweep.plan import Plan
from clipedu.studies.sweep.table import at_ends
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_text

if TYPE_CHECKING:
    import pandas


class NoScore(ClipeduError):
    """No trial of a sweep, or of a variant, has a score."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep has found.

    Attributes:
        folder: of the sweep.
        plan: what was tried.
        trials: a row a trial and seed (`clipedu.studies.sweep.table.trial_rows`).
        settings: a row a finished trial, the best first (`setting_rows`).
        best: a row a variant, with the scores on the scored sets (`best_rows`).
        chosen: the best setting of each variant that has one, by variant and name.
        runs: the runs of the best setting of each variant, one a seed.
        complete: whether all trials have ended, and the best are scored as far as they can be.
    """

    folder: Path
    plan: Plan
    trials: pandas.DataFrame
    settings: pandas.DataFrame
    best: pandas.DataFrame
    chosen: Mapping[str, Mapping[str, Any]]
    runs: Mapping[str, Sequence[Run]]
    complete: bool

    @property
    def remarks(self) -> list[str]:
        """What to heed.

        Such are best values at an end of what was tried, and variants without a score.
        """
        lost = [name for name in self.plan.variant_settings() if name not in self.chosen]
        return [f"No trial of {name} has a score." for name in lost] + at_ends(self.chosen, self.plan)

    def experiment(self, variant: str | None = None, seed: int | None = None) -> Experiment:
        """Return the experiment of the best setting of a variant.

        It has all training pairs.

        Args:
            variant: its name; None for the best of all.
            seed: None for the first of the sweep.
        Raises:
            NoScore: no trial of it has a score.
        """
        rows = self.settings if variant is None else self.settings[self.settings["variant"] == variant]
        if rows.empty:
            raise NoScore(f"{self.folder}: no trial {'' if variant is None else f'of {variant} '}has a score")
        row = rows.loc[rows["mean"].idxmax()]
        settings = self.chosen[row["variant"]]
        return self.plan.best(row["variant"], settings, self.plan.seeds[0] if seed is None else seed)


def write_sweep(found: Sweep) -> Path:
    """Write trials.csv, best.csv and the report into the folder of a sweep.

    Returns:
        the path of the report.
    Raises:
        ClipeduError: they cannot be written.
    """
    write_text(found.folder / "trials.csv", found.trials.to_csv(index=False))
    write_text(found.folder / "best.csv", found.best.to_csv(index=False))
    return write_sweep_report(found)
