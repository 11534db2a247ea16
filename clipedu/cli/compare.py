"""`clipedu compare`: one thing changed, over several seeds."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.cli.arguments import add_jobs, add_tune, path, word
from clipedu.config.command_line import add_experiment, experiment_changes
from clipedu.studies.comparison import (
    comparison_notes,
    comparison_table,
    comparison_text,
    variant,
    write_comparison,
)
from clipedu.studies.runner import COMPARISONS, comparison_cells, find_comparison, run_comparison
from clipedu.utils.errors import ClipeduError
from clipedu.utils.ranks import check_one_process

if TYPE_CHECKING:
    from clipedu.config.experiment import Experiment
    from clipedu.runs.run import Run
    from clipedu.studies.grid import LeftOut


def add_compare(commands: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add `compare` to the commands of a parser; `args.command(args)` runs it."""
    text = "one thing changed, over several seeds: mean and 95 % interval of every score"
    parser = commands.add_parser("compare", help=text.replace("%", "%%"), description=text)
    parser.add_argument(
        "what", metavar="WHAT", type=word, help="; ".join(f"{k}: {v.description}" for k, v in COMPARISONS.items())
    )
    parser.add_argument(
        "--seeds", nargs="+", action="extend", type=int, metavar="SEED", help="default: 0 1 2; 0 for decay"
    )
    parser.add_argument(
        "--variants", nargs="+", action="extend", metavar="NAME", help="only these (default: all of the comparison)"
    )
    parser.add_argument("--folder", type=path, help="folder of the comparison (default: runs/<what>-<preset>)")
    add_tune(parser)
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
    from clipedu.report.writer import write_report
    from clipedu.runs.folders import make_folder
    from clipedu.runs.lock import locked
    from clipedu.training.effects import refuse_without_effect
    from clipedu.workflow.starting import experiment_of, of_optimizers

    preset, changes = args.preset or "laptop", experiment_changes(args)
    base = experiment_of(preset, changes)
    comparison = find_comparison(args.what)
    if args.tune and comparison.scan:
        raise ClipeduError(f"--tune {' '.join(args.tune)} cannot be given: {args.what!r} tries settings itself")
    cells = comparison_cells(
        args.what,
        base,
        args.seeds or comparison.seeds,
        given=changes,
        only=args.variants,
        per_optimizer=of_optimizers(preset, base),
    )
    every = [experiment for of_seed in cells.values() for experiment in of_seed.values()]
    if comparison.follow:  # these are scored on the sets that `every` leaves alone
        every += [experiment.replace(holdout=None) for experiment in every]
    refuse_without_effect(every, changes)
    folder = args.folder or Path("runs") / f"{args.what}-{preset}"
    args.how_to_go_on = "The same command continues with the runs that are missing."
    check_one_process("a comparison")
    make_folder(folder)
    with locked(folder):
        tuned = ""
        if args.tune:
            cells, tuned = _tuned(cells, args, folder)
            print(tuned, flush=True)
        runs, left_out = _run(cells, folder, args, stacked=comparison.scan, keep_weights=not comparison.scan)
        chosen: list[Run] = []
        if comparison.follow and not left_out:
            print("\nThe best settings, trained on all training pairs and scored on the scored sets:", flush=True)
            chosen, left_out = _run(
                comparison.follow(runs), folder / "best", args, stacked=comparison.scan, keep_weights=True
            )
        for line in trained_lines_of([*runs, *chosen]):
            print(line)
        table, notes = comparison_table(runs), "" if comparison.scan else comparison_notes(runs)
        notes += f"\n\n{tuned}" if tuned else ""
        path = write_comparison(table, folder, notes)
        reported = chosen if comparison.scan else runs
        if reported:
            write_report(reported, folder, left_out=left_out.lines if left_out else [])
        if not comparison.scan:
            print(f"\n{comparison_text(table)}\n\n{notes}\n\nTable: {path}. Report of all runs: {folder}/report.html")
        if comparison.study:
            print(f"\n{comparison.study([*runs, *chosen], folder)}")
        if left_out:
            raise left_out


def _tuned(
    cells: Mapping[int, dict[str, Experiment]], args: argparse.Namespace, folder: Path
) -> tuple[dict[int, dict[str, Experiment]], str]:
    """Return the cells with the best values of settings, and what they are.

    Each variant has its own, found with the first seed, for all seeds.
    """
    from clipedu.studies.tuning import tune_cells

    first, of_first = next(iter(cells.items()))
    variants = {name.removesuffix(f"-seed{first}"): one for name, one in of_first.items()}
    tuned = tune_cells(variants, args.tune, folder, jobs=args.jobs, threads=args.threads)
    best = {
        seed: {f"{name}-seed{seed}": one.replace(seed=seed) for name, one in tuned.experiments.items()}
        for seed in cells
    }
    return best, f"Chosen on training pairs held out, seed {first}:\n\n{tuned.text}"


def _run(
    cells: Mapping[int, dict[str, Experiment]],
    folder: Path,
    args: argparse.Namespace,
    *,
    stacked: bool,
    keep_weights: bool,
) -> tuple[list[Run], LeftOut | None]:
    """Run cells, or what is missing of them, with a line for each.

    Returns:
        the runs, and what was left out if anything was.
    Raises:
        LeftOut: there is no run at all.
    """
    from clipedu.evaluation.metrics import SCORES
    from clipedu.studies.grid import LeftOut

    runs: list[Run] = []
    print(f"{sum(map(len, cells.values()))} runs in {folder}/", flush=True)
    try:
        options = {"jobs": args.jobs, "threads": args.threads, "stacked": stacked, "keep_weights": keep_weights}
        with closing(run_comparison(cells, folder, **options)) as ended:
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
        return runs, error
    return runs, None
