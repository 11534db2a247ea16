"""`clipedu evaluate` and `report`."""

from __future__ import annotations

import argparse
import json

from clipedu.cli.left_out import print_left_out
from clipedu.report.score_table import scores_text


def evaluate(args: argparse.Namespace) -> None:
    """Score a run again on its own test sets, or on others.

    Scores on other sets are only printed.
    """
    from clipedu.evaluation.held_out import trained_counts
    from clipedu.evaluation.scoring import average
    from clipedu.evaluation.scoring import evaluate as evaluate_model
    from clipedu.report.writer import write_report
    from clipedu.runs.folders import load_run
    from clipedu.runs.trained_rows import shared_with_training
    from clipedu.training.datasets import evaluation_sets
    from clipedu.workflow.scoring import score

    run = load_run(args.run)
    changes = {
        key: value
        for key in ("eval_data", "zeroshot_data", "class_names", "templates")
        if (value := getattr(args, key)) is not None
    }
    if changes:
        sets = evaluation_sets(run.experiment.replace(**changes))
        model = run.model()
        metrics: dict[str, float] = {}
        for pairs in sets:
            metrics |= evaluate_model(model, pairs, progress=True)
            metrics |= trained_counts(pairs, shared_with_training(run.folder, pairs))
        metrics["average"] = average(metrics)
    else:
        sets = evaluation_sets(run.experiment)
        metrics = score(run, sets)
        write_report([run], run.folder)
    print(scores_text(metrics))
    for pairs in sets:
        print_left_out(f"{pairs.name}/{pairs.split}", pairs.skipped, pairs.left_out)


def report(args: argparse.Namespace) -> None:
    """Write one report on the runs in the folders."""
    from clipedu.report.writer import write_report
    from clipedu.runs.folders import find_runs

    runs = find_runs(args.runs)
    folder = args.folder or args.runs[0]
    baseline = args.runs[0] / "baseline.json"
    kept = json.loads(baseline.read_text()) if baseline.is_file() else None
    print(f"{len(runs)} runs. Report: {write_report(runs, folder, baseline=kept)}")
