"""`clipedu grid`: the course's grid of losses and optimizers."""

from __future__ import annotations

import argparse
from pathlib import Path

from clipedu.config.command_line import experiment_changes
from clipedu.config.experiment import Experiment
from clipedu.config.presets import PRESETS


def grid(given: argparse.Namespace) -> None:
    from clipedu.report.writer import write_report
    from clipedu.studies.grid import COURSE_LOSSES, COURSE_OPTIMIZERS, cells, run_grid, yardstick

    preset = given.preset or "laptop"
    changes = experiment_changes(given)
    base = Experiment.preset(preset, **changes)
    per_optimizer = {
        name: {key: value for key, value in settings.items() if key not in changes}
        for name, settings in PRESETS[preset].per_optimizer.items()
    }
    experiments = cells(base, given.losses or COURSE_LOSSES, given.optimizers or COURSE_OPTIMIZERS, per_optimizer)
    folder = given.folder or Path("runs") / f"grid-{preset}"
    given.how_to_go_on = "The same command goes on with the cells that are missing."
    runs = []
    print(f"{len(experiments)} cells in {folder}/")
    print(f"{'cell':<20} {'TR@1':>6} {'IR@1':>6} {'top-1':>6} {'average':>8} {'seconds':>8}")
    for run in run_grid(experiments, folder):
        runs.append(run)
        if run.metrics:
            scores = [f"{run.metrics[key]:6.2f}" if key in run.metrics else " " * 6 for key in ("tr@1", "ir@1", "top1")]
            print(f"{run.name:<20} {' '.join(scores)} {run.metrics['average']:8.2f} {run.seconds:8.1f}", flush=True)
        else:
            print(f"{run.name:<20} {run.status}: {run.note}", flush=True)
    baseline = yardstick(base, folder)
    if baseline:
        print(f"{'ridge, no CLIP':<20} {baseline['tr@1']:6.2f} {baseline['ir@1']:6.2f}   ({baseline['seconds']:.0f} s)")
    print(f"\nReport: {write_report(runs, folder, baseline=baseline)}")
