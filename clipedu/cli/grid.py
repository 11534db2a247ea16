"""`clipedu grid`: the course's grid of losses and optimizers."""

from __future__ import annotations

import argparse
from pathlib import Path

from clipedu.cli.left_out import print_left_out_of_run
from clipedu.config.command_line import experiment_changes
from clipedu.config.experiment import Experiment
from clipedu.config.presets import PRESETS
from clipedu.utils.ranks import check_one_process


def grid(args: argparse.Namespace) -> None:
    """Run the grid, or what is missing of it, and print a line a cell.

    Raises:
        LeftOut: after the report, if cells were left out.
    """
    from clipedu.evaluation.held_out import trained_lines_of
    from clipedu.evaluation.metrics import SCORES
    from clipedu.report.writer import write_report
    from clipedu.runs.folders import make_folder
    from clipedu.runs.lock import locked
    from clipedu.studies.grid import (
        COURSE_LOSSES,
        COURSE_OPTIMIZERS,
        LeftOut,
        cells,
        grid_baseline,
        run_grid,
        shared_data,
    )
    from clipedu.training.effects import refuse_without_effect

    preset = args.preset or "laptop"
    changes = experiment_changes(args)
    base = Experiment.preset(preset, **changes)
    per_optimizer = {
        name: {key: value for key, value in settings.items() if key not in changes}
        for name, settings in PRESETS[preset].per_optimizer.items()
    }
    experiments = cells(base, args.losses or COURSE_LOSSES, args.optimizers or COURSE_OPTIMIZERS, per_optimizer)
    refuse_without_effect(list(experiments.values()), changes)
    folder = args.folder or Path("runs") / f"grid-{preset}"
    args.how_to_go_on = "The same command continues with the cells that are missing."
    check_one_process("a grid")
    make_folder(folder)
    with locked(folder):
        runs = []
        print(f"{len(experiments)} cells in {folder}/")
        widths = {key: max(6, len(heading) + 1) for key, heading in SCORES.items()}
        headings = " ".join(f"{heading:>{widths[key]}}" for key, heading in SCORES.items())
        print(f"{'cell':<20} {headings} {'seconds':>8}")
        data = shared_data(base)
        left_out: LeftOut | None = None
        try:
            for run in run_grid(experiments, folder, data=data):
                runs.append(run)
                if run.metrics:
                    scores = [
                        f"{run.metrics[key]:{w}.2f}" if key in run.metrics else " " * w for key, w in widths.items()
                    ]
                    print(f"{run.name:<20} {' '.join(scores)} {run.seconds:8.1f}", flush=True)
                else:
                    print(f"{run.name:<20} {run.status}: {run.note}", flush=True)
        except LeftOut as error:
            if not runs:
                raise
            left_out = error
        baseline = grid_baseline(base, folder, data)
        if baseline:
            print(
                f"{'ridge, no CLIP':<20} {baseline['tr@1']:6.2f} {baseline['ir@1']:6.2f}   ({baseline['seconds']:.0f} s)"
            )
        if runs:
            print_left_out_of_run(folder / runs[0].name)  # all cells have the same sets
        for line in trained_lines_of(runs):
            print(line)
        lines = left_out.lines if left_out else []
        print(f"\nReport: {write_report(runs, folder, baseline=baseline, left_out=lines)}")
        if left_out:
            raise left_out
