"""The folder of a blend: tables, a figure, and blended models as runs.

blend.csv, blend.png       scores along a line: a row a point and score
soup.csv, held-out.csv     scores of a soup and of its parts; how a greedy one was chosen
t-0.5/, soup/              the blended models, as folders of runs
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from clipedu.config.experiment import Experiment
from clipedu.data.pairs import Pairs
from clipedu.inference.batch_statistics import StatisticsData
from clipedu.models import DualEncoder
from clipedu.plots.blending import plot_blend
from clipedu.plots.style import save_figure
from clipedu.report.writer import write_report
from clipedu.runs.blend_recipe import Recipe
from clipedu.runs.blended import write_blend
from clipedu.runs.folders import check_free, make_folder
from clipedu.runs.lock import locked
from clipedu.runs.run import Run
from clipedu.training.datasets import describe
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_text
from clipedu.workflow.blend_data import leading
from clipedu.workflow.blending import OWN, Line, Mixer
from clipedu.workflow.opening import Opened
from clipedu.workflow.scoring import score
from clipedu.workflow.soups import Soup


def blend_folder(names: Sequence[str], given: Path | None = None) -> Path:
    """Return a folder for a blend that is new or empty.

    Args:
        names: of the models.
        given: by the user; None takes runs/blend-A-B, or runs/blend-A-and-2-more, with a number where that is taken.
    Raises:
        ClipeduError: the folder is not empty.
    """
    if given is not None:
        check_free(given)
        return given
    words = [re.sub(r"[^\w.]+", "_", Path(name).name)[:60] for name in names]
    last = words[1] if len(words) == 2 else f"and-{len(words) - 1}-more"
    stem = f"blend-{words[0]}-{last}"
    return next(p for n in range(1, 10_000) if not (p := Path("runs") / (stem if n == 1 else f"{stem}-{n}")).exists())


def write_line(line: Line, folder: Path) -> list[Path]:
    """Write the table and the figure of a line, and return their paths.

    Raises:
        ClipeduError: a file cannot be written.
    """
    make_folder(folder)
    write_text(folder / "blend.csv", line.table.to_csv(index=False))
    save_figure(plot_blend(line), folder / "blend.png")
    return [folder / "blend.csv", folder / "blend.png"]


def write_soup(soup: Soup, folder: Path) -> list[Path]:
    """Write the tables of a soup, and return their paths.

    Raises:
        ClipeduError: a file cannot be written.
    """
    make_folder(folder)
    write_text(folder / "soup.csv", soup.table.to_csv(index=False))
    if soup.held_out is None:
        return [folder / "soup.csv"]
    write_text(folder / "held-out.csv", soup.held_out.to_csv(index=False))
    return [folder / "soup.csv", folder / "held-out.csv"]


def check_runs(models: Sequence[Opened]) -> list[Run]:
    """Return the runs among models, whose blend can be kept as a run.

    A model of another library must be built as the first run, whose settings the blend has.

    Raises:
        ClipeduError: one of another library is built otherwise, or there is no run.
    """
    first = leading(models)
    for other in [one for one in models if one.run is None]:
        if first.run is None:
            raise ClipeduError(
                f"{other.name} is no run of clipedu, and neither is another of the models, so a blend of them cannot be kept as one: leave out --keep"
            )
        if _built(first.model) != _built(other.model):
            raise ClipeduError(
                f"{other.name} is no run of clipedu, and {first.name} did not start from it, as its modules, pixels or padding are others: a "
                "blend of them cannot be kept as a run. Leave out --keep"
            )
    return [one.run for one in models if one.run is not None]


def _built(model: DualEncoder) -> list[Any]:
    """Return what of a model's function is not in its weights."""
    pixels = [round(x, 3) for part in (model.mean, model.std) for x in part.flatten().tolist()]
    return [repr(model), model.image_size, model.text_padding, pixels]


def _learned(one: Opened) -> dict[str, torch.Tensor]:
    """Return the logit scale of a released model, as the losses keep it."""
    if one.scale is None:
        return {}
    bias = {} if one.scale.bias is None else {"bias": torch.tensor(one.scale.bias)}
    return {"logit_scale": torch.tensor(one.scale.logit_scale).log()} | bias


def keep_mix(
    models: Sequence[Opened],
    weights: Sequence[float],
    folder: Path,
    *,
    sets: Sequence[Pairs],
    settings: Experiment,
    statistics: StatisticsData | None,
    command: str,
) -> Run:
    """Write a mix of models as a run's folder, with scores and report.

    Args:
        models: runs, and models that runs have started from, that differ in their weights alone; they stay as they are.
        weights: how much of each; their sum is 1.
        folder: new or empty.
        sets: what to score it on.
        settings: by which these were opened, which the run keeps (`scoring_settings`).
        statistics: as in `clipedu.workflow.blending.blend_line`.
        command: that makes it again.
    Raises:
        ClipeduError: as `check_runs`, or a file that cannot be written.
        NotFinite: a weight or an embedding is not finite.
    """
    runs = check_runs(models)
    mixer = Mixer(models, statistics)
    single = sum(weight != 0 for weight in weights) == 1
    recipe = Recipe([one.name for one in models], list(weights), OWN if single else mixer.statistics, command)
    with mixer.restored():
        model = mixer.mix(weights, statistics=OWN if single else None)
        make_folder(folder)
        with locked(folder):
            scales = [one.run or _learned(one) for one in models]
            run = write_blend(folder, model, runs, recipe, settings, [describe(pairs) for pairs in sets], scales=scales)
            score(run, sets, model=model, progress=False)
            write_report([run], folder)
    return run
