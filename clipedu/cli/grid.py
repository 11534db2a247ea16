"""`clipedu grid`: the course's grid of losses and optimizers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from clipedu.cli.arguments import add_jobs, add_tune, path
from clipedu.cli.left_out import print_left_out_of_run
from clipedu.config.command_line import add_experiment, experiment_changes
from clipedu.config.experiment import Experiment
from clipedu.evaluation.metrics import SCORES
from clipedu.utils.errors import ClipeduError
from clipedu.utils.ranks import check_one_process


def add_grid(commands: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add `grid` to the commands of a parser; `args.command(args)` runs it."""
    text = "the course's grid: five losses x three optimizers"
    parser = commands.add_parser("grid", help=text, description=text)
    parser.add_argument("--folder", type=path, help="folder of the grid (default: runs/grid-<preset>)")
    parser.add_argument(
        "--losses", nargs="+", action="extend", metavar="LOSS", help="default: clip sogclr cyclip vicreg onlineclr"
    )
    parser.add_argument("--optimizers", nargs="+", action="extend", metavar="OPTIMIZER", help="default: adamw sgd adam")
    parser.add_argument(
        "--seeds",
        nargs="+",
        action="extend",
        type=int,
        metavar="SEED",
        help="each cell once a seed: mean and 95 %% interval of its scores",
    )
    add_tune(parser)
    add_jobs(parser)
    add_experiment(parser, without=("loss", "optimizer"))
    parser.set_defaults(command=grid)
    return parser


def grid(args: argparse.Namespace) -> None:
    """Run the grid, or what is missing of it, and print a line a cell.

    The lines are in the grid's order: each is printed as soon as its cell and all before it are done.

    Raises:
        LeftOut: after the report, if cells were left out.
    """
    from clipedu.evaluation.held_out import trained_lines_of
    from clipedu.report.writer import write_report
    from clipedu.runs.folders import make_folder
    from clipedu.runs.lock import locked
    from clipedu.studies.comparison import comparison_notes, comparison_table, comparison_text, write_comparison
    from clipedu.studies.grid import LeftOut, grid_baseline, run_grid, shared_data

    folder = args.folder or Path("runs") / f"grid-{args.preset or 'laptop'}"
    experiments = _cells(args, folder)
    args.how_to_go_on = "The same command continues with the cells that are missing."
    check_one_process("a grid")
    make_folder(folder)
    with locked(folder):
        if args.tune:
            experiments = _tuned(experiments, args, folder)
        runs: list[Any] = []
        print(f"{len(experiments)} cells in {folder}/")
        width = max(20, *map(len, experiments))
        headings = " ".join(f"{heading:>{_width(heading)}}" for heading in SCORES.values())
        print(f"{'cell':<{width}} {headings} {'seconds':>8}", flush=True)
        first = next(iter(experiments.values()))
        data = shared_data(first)
        left_out: LeftOut | None = None
        try:
            with closing(run_grid(experiments, folder, data=data, jobs=args.jobs, threads=args.threads)) as ended:
                for run in ended:
                    runs.append(run)
                    print(f"{run.name:<{width}} {_line(run)}", flush=True)
        except LeftOut as error:
            if not runs:
                raise
            left_out = error
        baseline = grid_baseline(first, folder, data)
        if baseline:
            scores = f"{baseline['tr@1']:6.2f} {baseline['ir@1']:6.2f}   ({baseline['seconds']:.0f} s)"
            print(f"{'ridge, no CLIP':<{width}} {scores}")
        if runs:
            print_left_out_of_run(folder / runs[0].name)  # all cells have the same sets
        for line in trained_lines_of(runs):
            print(line)
        if len({experiment.seed for experiment in experiments.values()}) > 1:
            table, notes = comparison_table(runs), comparison_notes(runs)
            print(f"\n{comparison_text(table)}\n\n{notes}\n\nTable: {write_comparison(table, folder, notes)}")
        lines = left_out.lines if left_out else []
        print(f"\nReport: {write_report(runs, folder, baseline=baseline, left_out=lines)}")
        if left_out:
            raise left_out


def _cells(args: argparse.Namespace, folder: Path) -> dict[str, Experiment]:
    """Return the cells that the arguments ask for."""
    from clipedu.studies.grid import COURSE_LOSSES, COURSE_OPTIMIZERS, cells, cells_there
    from clipedu.training.effects import refuse_without_effect
    from clipedu.workflow.starting import experiment_of, of_optimizers

    preset = args.preset or "laptop"
    changes = experiment_changes(args)
    if args.seeds and "seed" in changes:
        raise ClipeduError(
            f"--seed {changes['seed']} and --seeds {_words(args.seeds)} cannot both be given: leave out one"
        )
    base = experiment_of(preset, changes)
    losses, optimizers = args.losses or COURSE_LOSSES, args.optimizers or COURSE_OPTIMIZERS
    experiments = cells(base, losses, optimizers, of_optimizers(preset, base), args.seeds, changes)
    refuse_without_effect(list(experiments.values()), changes)
    return cells_there(experiments, folder)


def _tuned(experiments: dict[str, Experiment], args: argparse.Namespace, folder: Path) -> dict[str, Experiment]:
    """Return the cells with the best values of settings: each loss and optimizer has its own for all seeds."""
    from clipedu.studies.tuning import tune_cells

    seed = next(iter(experiments.values())).seed
    first = {name: cell for name, cell in experiments.items() if cell.seed == seed}
    tuned = tune_cells(first, args.tune, folder, jobs=args.jobs, threads=args.threads)
    print(tuned.text, flush=True)
    by_kind = {(cell.loss, cell.optimizer): cell for cell in tuned.experiments.values()}
    return {name: by_kind[cell.loss, cell.optimizer].replace(seed=cell.seed) for name, cell in experiments.items()}


def _words(values: Sequence[object]) -> str:
    return " ".join(map(str, values))


def _width(heading: str) -> int:
    return max(6, len(heading) + 1)


def _line(run: Any) -> str:
    """Return the scores of a cell in columns, or why it has none."""
    if not run.metrics:
        return f"{run.status}: {run.note}"
    scores = (
        f"{run.metrics[key]:{_width(heading)}.2f}" if key in run.metrics else " " * _width(heading)
        for key, heading in SCORES.items()
    )
    return f"{' '.join(scores)} {run.seconds:8.1f}"
