"""`clipedu evaluate` and `report`."""

from __future__ import annotations

import argparse
import json

from clipedu.report.score_table import scores_text


def evaluate(given: argparse.Namespace) -> None:
    from clipedu.evaluation.scoring import average
    from clipedu.evaluation.scoring import evaluate as evaluate_model
    from clipedu.report.writer import write_report
    from clipedu.runs.run import load_run
    from clipedu.training.datasets import evaluation_sets
    from clipedu.workflow.scoring import score

    run = load_run(given.run)
    changes = {key: value for key in ("eval_data", "zeroshot_data") if (value := getattr(given, key)) is not None}
    if changes:
        sets = evaluation_sets(run.experiment.replace(**changes))
        model = run.model()
        metrics: dict[str, float] = {}
        for pairs in sets:
            metrics |= evaluate_model(model, pairs, progress=True)
        metrics["average"] = average(metrics)
    else:
        metrics = score(run, evaluation_sets(run.experiment))
        write_report([run], run.folder)
    print(scores_text(metrics))


def report(given: argparse.Namespace) -> None:
    from clipedu.report.writer import write_report
    from clipedu.runs.run import find_runs

    runs = find_runs(given.runs)
    folder = given.folder or given.runs[0]
    baseline = given.runs[0] / "baseline.json"
    kept = json.loads(baseline.read_text()) if baseline.is_file() else None
    print(f"{len(runs)} runs. Report: {write_report(runs, folder, baseline=kept)}")
