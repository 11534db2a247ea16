"""`clipedu quickstart`, `train` and `groups`."""

from __future__ import annotations

import argparse
from pathlib import Path

from clipedu.cli.adopted import adopted_groups
from clipedu.cli.left_out import print_left_out_of_run
from clipedu.config.command_line import experiment_changes
from clipedu.config.experiment import Experiment
from clipedu.report.score_table import scores_text
from clipedu.utils.errors import ClipeduError
from clipedu.utils.ranks import of_first


def quickstart(args: argparse.Namespace) -> None:
    """Train, score and report the default experiment; print next steps."""
    from clipedu.workflow.pipeline import fit

    folder = args.folder or next(p for n in range(1, 10_000) if not (p := Path("runs") / f"quickstart-{n}").exists())
    args.how_to_go_on = f"Resume with: clipedu train --resume {folder}"
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
  clipedu grid                    five losses x three optimizers, each in its own process
  clipedu lab                     the notebooks
  clipedu train --help            all settings""")


def train(args: argparse.Namespace) -> None:
    """Train one experiment, or resume a stopped run, and print its scores.

    Raises:
        ClipeduError: --resume with other options, or a setting that is not allowed.
    """
    from clipedu.runs.folders import new_run_folder
    from clipedu.runs.settings import GOING_ON
    from clipedu.training.effects import refuse_without_effect
    from clipedu.workflow.pipeline import fit, resume
    from clipedu.workflow.starting import experiment_of

    changes = experiment_changes(args)
    if args.resume is not None:
        epochs = changes.pop("epochs", None)
        if not set(changes) <= set(GOING_ON) or args.preset is not None or args.folder is not None:
            options = ", ".join(f"--{name.replace('_', '-')}" for name in ("epochs", *GOING_ON))
            raise ClipeduError(
                f"--resume continues with a run's own settings, so it takes no other option than {options}"
            )
        args.how_to_go_on = f"Resume with: clipedu train --resume {args.resume}"
        run = resume(args.resume, epochs=epochs, **changes)
    else:
        experiment = experiment_of(args.preset, changes)
        refuse_without_effect([experiment], changes)
        folder = of_first(lambda: args.folder or new_run_folder(experiment))
        args.how_to_go_on = f"If training had begun, resume with: clipedu train --resume {folder}"
        run = fit(experiment, folder)
    print(scores_text(run.metrics))
    print_left_out_of_run(run.folder)
    print(f"\nTrained in {run.seconds:.0f} s. Report: {run.folder}/report.html")


def groups(args: argparse.Namespace) -> None:
    """Print the parameter groups of an experiment's optimizer.

    With --model they are those of a released model.

    Raises:
        ClipeduError: a setting that is not allowed or has no effect.
    """
    from clipedu.optim import describe_groups
    from clipedu.training.datasets import load_training_data
    from clipedu.training.effects import refuse_without_effect
    from clipedu.training.setup import prepare
    from clipedu.workflow.starting import experiment_of

    changes = experiment_changes(args)
    if args.model is not None:
        adopted_groups(args, changes)
        return
    if args.weights is not None:
        raise ClipeduError(
            "--weights are those of a released model: give --model, too (or --image-weights, --text-weights)"
        )
    experiment = experiment_of(args.preset, changes)
    refuse_without_effect([experiment], changes)
    print(describe_groups(prepare(experiment, load_training_data(experiment)).optimizer))
