"""`clipedu evaluate` and `report`."""

from __future__ import annotations

import argparse
import sys

from clipedu.cli.adopted import evaluate_adopted
from clipedu.cli.left_out import print_left_out
from clipedu.cli.probes import asks_for_tables, print_tables
from clipedu.report.score_table import scores_text
from clipedu.utils.errors import ClipeduError

OF_RUNS = {
    "eval_data": None,
    "checkpoint": "last",
    "averaged": False,
}  # options for a run alone, as they are by default
OF_MODELS = {"weights": None, "image_size": None, "data": None, "folder": None}  # and for a released model alone
_INSTEAD = {"eval_data": ", or give --data", "data": ", or give --eval-data"}


def evaluate(args: argparse.Namespace) -> None:
    """Score a run again, or a released model.

    A run is scored on its own test sets, or on others. Scores of a run on other sets, or of other weights than the last ones, are only printed.
    Probes, calibration and corruptions are tables of their own, in place of the scores.

    Raises:
        ClipeduError: neither a run nor a model, or both; an option that has no effect.
    """
    if (args.run is None) == (args.model is None):
        raise ClipeduError(
            "what is to be scored? Give the folder of a run, or a released model with --model: one of them"
        )
    from clipedu.interop.sources import is_released

    if args.run is not None and is_released(args.run):
        raise ClipeduError(
            f"{args.run} is a released model, no run: give it as --model {args.run}, with --data NAME, --zeroshot-data NAME or both"
        )
    of_the_other = OF_MODELS if args.model is None else OF_RUNS
    for name, plain in of_the_other.items():
        if getattr(args, name) != plain:
            what = "a run" if args.model is None else "a released model"
            raise ClipeduError(
                f"--{name.replace('_', '-')} has no effect on {what}: leave it out{_INSTEAD.get(name, '')}"
            )
    if args.model is not None:
        evaluate_adopted(args)
        return
    from clipedu.evaluation.held_out import trained_counts
    from clipedu.evaluation.scoring import average
    from clipedu.evaluation.scoring import evaluate as evaluate_model
    from clipedu.report.writer import write_report
    from clipedu.runs.checkpoint import step_of
    from clipedu.runs.folders import load_run
    from clipedu.runs.lock import locked
    from clipedu.runs.paths import located
    from clipedu.runs.trained_rows import shared_with_training
    from clipedu.training.datasets import evaluation_sets
    from clipedu.utils.device import pick_device
    from clipedu.workflow.probing import temperature_of
    from clipedu.workflow.scoring import score

    tables = asks_for_tables(args)
    run = load_run(args.run, scores=False)
    changes: dict[str, str | None] = {
        key: value
        for key in ("eval_data", "zeroshot_data", "class_names", "templates")
        if (value := getattr(args, key)) is not None
    }
    if (changes or args.probe or args.calibrate) and run.experiment.holdout is not None:
        changes["holdout"] = None  # other sets are asked for than the pairs held out
    if tables:
        sets = evaluation_sets(located(run).replace(**changes))
        if args.checkpoint == "last":
            run.choose_sound_checkpoint()
        model = run.model(args.checkpoint, averaged=args.averaged).to(pick_device(run.experiment.device))
        print_tables(args, model, sets, temperature_of(run, args.checkpoint), run.folder)
        return
    if changes or args.checkpoint == "best" or args.averaged:
        sets = evaluation_sets(located(run).replace(**changes))
        metrics = run.choose_sound_checkpoint() if args.checkpoint == "last" else {}
        model = run.model(args.checkpoint, averaged=args.averaged)
        if args.checkpoint == "best":
            best, last = (step_of(run.checkpoint(which)) for which in ("best", "last"))
            print(f"The scores after step {best} of {last}, the best during training:")
        for pairs in sets:
            metrics |= evaluate_model(model, pairs, progress=True)
            metrics |= trained_counts(pairs, shared_with_training(run.folder, pairs))
        metrics["average"] = average(metrics)
    else:
        with locked(run.folder):
            sets = evaluation_sets(located(run))
            metrics = score(run, sets)
            write_report([run], run.folder)
    print(scores_text(metrics))
    for pairs in sets:
        print_left_out(f"{pairs.name}/{pairs.split}", pairs.skipped, pairs.left_out)


def report(args: argparse.Namespace) -> None:
    """Write one report on the runs in the folders.

    Damaged runs are left out, and named with the reason on stderr and on the page.
    """
    from clipedu.report.writer import write_report
    from clipedu.runs.folders import readable_runs
    from clipedu.runs.schema import read_baseline

    runs, left_out = readable_runs(args.runs)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    folder = args.folder or args.runs[0]
    page = write_report(runs, folder, baseline=read_baseline(args.runs[0]), left_out=left_out)
    print(f"{len(runs)} run{'s' * (len(runs) > 1)}{f', {len(left_out)} left out' if left_out else ''}. Report: {page}")
