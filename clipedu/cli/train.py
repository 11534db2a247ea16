"""`clipedu quickstart`, `train` and `groups`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from clipedu.config.command_line import experiment_changes
from clipedu.config.experiment import Experiment
from clipedu.report.score_table import scores_text
from clipedu.utils.errors import ClipeduError


def quickstart(given: argparse.Namespace) -> None:
    from clipedu.workflow.pipeline import fit

    folder = given.folder or next(p for n in range(1, 10_000) if not (p := Path("runs") / f"quickstart-{n}").exists())
    given.how_to_go_on = f"Go on with: clipedu train --resume {folder}"
    experiment = Experiment()
    print(
        f"Training {experiment.loss.upper()} with {experiment.optimizer} on embedded scenes, {experiment.epochs} epochs ..."
    )
    run = fit(experiment, folder)
    print(scores_text(run.metrics))
    print(f"""
Trained in {run.seconds:.0f} s. Everything is in {run.folder}/:
  report.html   scores, plots and settings on one page: open it in a browser
  plots/        loss, norms, similarity matrix, embedding map

What to try next:
  clipedu train --loss sogclr     another loss (all of them: clipedu list losses)
  clipedu grid                    five losses x three optimizers, about five minutes on two CPU cores
  clipedu lab                     the notebooks
  clipedu train --help            all settings""")


def train(given: argparse.Namespace) -> None:
    from clipedu.runs.run import new_run_folder
    from clipedu.workflow.pipeline import fit, resume

    changes = experiment_changes(given)
    if given.resume is not None:
        if changes or given.preset or given.folder:
            raise ClipeduError("--resume goes on with a run's own settings, so it takes no other option")
        given.how_to_go_on = f"Go on with: clipedu train --resume {given.resume}"
        run = resume(given.resume)
    else:
        experiment = Experiment.preset(given.preset or "laptop", **changes)
        folder = given.folder or new_run_folder(experiment)
        given.how_to_go_on = f"If it had begun to train, go on with: clipedu train --resume {folder}"
        run = fit(experiment, folder)
    print(scores_text(run.metrics))
    tell_skipped(run.folder)
    print(f"\nTrained in {run.seconds:.0f} s. Report: {run.folder}/report.html")


def groups(given: argparse.Namespace) -> None:
    from clipedu.optim import describe_groups
    from clipedu.training.datasets import load_training_data
    from clipedu.training.setup import prepare

    experiment = Experiment.preset(given.preset or "laptop", **experiment_changes(given))
    print(describe_groups(prepare(experiment, load_training_data(experiment)).optimizer))


def tell_skipped(folder: Path) -> None:
    """How many samples of each set were left out, and the first of them."""
    sets = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    for one in sets:
        if one["skipped"]:
            print(
                f"{len(one['skipped'])} samples of {one['name']}/{one['split']} were left out, e.g. {one['skipped'][0]} "
                f"(all: {folder}/data.json)"
            )
