"""`clipedu compare`: one thing changed, over several seeds."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import Any

from clipedu.cli.arguments import add_jobs, path, word
from clipedu.config.command_line import add_experiment, experiment_changes
from clipedu.config.presets import PRESETS
from clipedu.studies.comparison import (
    comparison_notes,
    comparison_table,
    comparison_text,
    variant,
    write_comparison,
)
from clipedu.studies.runner import COMPARISONS, comparison_cells, find_comparison, run_comparison
from clipedu.utils.ranks import check_one_process


def add_compare(commands: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add `compare` to the commands of a parser; `args.command(args)` runs it."""
    text = "one thing changed, over several seeds: mean and 95 %% interval of every score"
    parser = commands.add_parser("compare", help=text, description=text)
    parser.add_argument(
        "what", metavar="WHAT", type=word, help="; ".join(f"{k}: {v.description}" for k, v in COMPARISONS.items())
    )
    parser.add_argument(
        "--seeds", nargs="+", action="extend", type=int, metavar="SEED", help="default: 0 1 2; 0 for norms and decay"
    )
    parser.add_argument(
        "--variants", nargs="+", action="extend", metavar="NAME", help="only these (default: all of the comparison)"
    )
    parser.add_argument("--folder", type=path, help="folder of the comparison (default: runs/<what>-<preset>)")
    add_jobs(parser)
    add_experiment(parser, without=("seed",))
    parser.set_defaults(command=compare)
    return parser


def compare(args: argparse.Namespace) -> None:
    """Run a comparison, or what is missing of it, and print its table.

    Raises:
        LeftOut: after the report, if runs were left out.
    """
    from clipedu.evaluation.held_out import trained_lines_of
    from clipedu.evaluation.metrics import SCORES
    from clipedu.report.writer import write_report
    from clipedu.runs.folders import make_folder
    from clipedu.runs.lock import locked
    from clipedu.studies.grid import LeftOut
    from clipedu.training.effects import refuse_without_effect
    from clipedu.workflow.starting import experiment_of

    preset, changes = args.preset or "laptop", experiment_changes(args)
    base = experiment_of(preset, changes)
    comparison = find_comparison(args.what)
    cells = comparison_cells(
        args.what,
        base,
        args.seeds or comparison.seeds,
        given=changes,
        only=args.variants,
        per_optimizer=PRESETS[preset].per_optimizer,
    )
    refuse_without_effect([experiment for of_seed in cells.values() for experiment in of_seed.values()], changes)
    folder = args.folder or Path("runs") / f"{args.what}-{preset}"
    args.how_to_go_on = "The same command continues with the runs that are missing."
    check_one_process("a comparison")
    make_folder(folder)
    with locked(folder):
        runs = []
        print(f"{sum(map(len, cells.values()))} runs in {folder}/", flush=True)
        left_out: LeftOut | None = None
        try:
            with closing(run_comparison(cells, folder, jobs=args.jobs, threads=args.threads)) as ended:
                for run in ended:
                    runs.append(run)
                    scores = [f"{word} {run.metrics[key]:.2f}" for key, word in SCORES.items() if key in run.metrics]
                    print(
                        f"{variant(run)}, seed {run.experiment.seed}: {', '.join(scores) or f'{run.status}: {run.note}'}",
                        flush=True,
                    )
        except LeftOut as error:
            if not runs:
                raise
            left_out = error
        for line in trained_lines_of(runs):
            print(line)
        table, notes = comparison_table(runs), comparison_notes(runs)
        write_report(runs, folder, left_out=left_out.lines if left_out else [])
        print(
            f"\n{comparison_text(table)}\n\n{notes}\n\nTable: {write_comparison(table, folder, notes)}. Report of all runs: {folder}/report.html"
        )
        if comparison.study:
            print(f"\n{comparison.study(runs, folder)}")
        if left_out:
            raise left_out
