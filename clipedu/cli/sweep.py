"""`clipedu sweep`: try settings, choose on pairs held out, score the best."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from clipedu.cli.arguments import path, whole, word
from clipedu.cli.sweep_file import read_sweep_file
from clipedu.config.command_line import add_experiment, experiment_changes
from clipedu.utils.errors import ClipeduError

OPTIONS = ("seeds", "trials", "sampler", "pruner", "holdout", "metric")


def add_sweep(commands: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add `sweep` to the commands of a parser; `args.command(args)` runs it."""
    text = "try settings on training pairs held out, then train and score the best of each variant"
    parser = commands.add_parser(
        "sweep",
        help=text,
        description=text,
        epilog="An example: clipedu sweep --preset tiny --vary lr=1e-4..1e-2:log --trials 10",
    )
    parser.add_argument(
        "file", nargs="?", type=path, metavar="FILE.toml", help="a sweep in a file; options here have precedence"
    )
    parser.add_argument(
        "--vary", nargs="+", action="extend", type=word, metavar="NAME=VALUES",
        help="settings to choose: lr=1e-4..1e-2:log (a range), lr=1e-4..1e-2:log:5 (five points of it), weight_decay=0,0.05,0.1, "
        "optimizer_options.betas=[0.9,0.95],[0.9,0.99]",
    )  # fmt: skip
    parser.add_argument(
        "--variants", dest="compared", nargs="+", action="extend", type=word, metavar="NAME=VALUES",
        help="settings to compare: loss=clip,sogclr; each combination has trials and a best setting of its own",
    )  # fmt: skip
    parser.add_argument(
        "--seeds",
        nargs="+",
        action="extend",
        type=int,
        metavar="SEED",
        help="of each trial; its score is the mean (default: 0)",
    )
    parser.add_argument(
        "--trials", type=whole(1), metavar="N", help="of each variant (default: 20; a grid has all combinations)"
    )
    parser.add_argument("--sampler", type=word, metavar="tpe|random|grid", help="how trials are drawn (default: tpe)")
    parser.add_argument(
        "--pruner",
        type=word,
        metavar="median|hyperband|none",
        help="what stops hopeless trials early (default: median)",
    )
    parser.add_argument(
        "--holdout",
        type=float,
        metavar="SHARE",
        help="of the training pairs, not trained on but scored on (default: 0.1)",
    )
    parser.add_argument(
        "--metric", type=word, metavar="KEY", help="what to choose by: average (default), tr@1, ir@1, ..."
    )
    parser.add_argument(
        "--folder", type=path, help="folder of the sweep (default: runs/sweep-<preset>, or <file>'s name)"
    )
    parser.add_argument("--join", action="store_true", help="work on a sweep together with other processes")
    parser.add_argument(
        "--storage", type=word, metavar="URL", help="a database for several machines (default: a file in the folder)"
    )
    add_experiment(parser, without=("seed", "holdout"))
    parser.set_defaults(command=sweep)
    return parser


def sweep(args: argparse.Namespace) -> None:
    """Run a sweep, or what is missing of it.

    A line a trial is printed, and at the end a row a variant.
    """
    from clipedu.report.sweep_page import best_text
    from clipedu.studies.sweep.plan import make_plan
    from clipedu.studies.sweep.result import write_sweep
    from clipedu.studies.sweep.run import open_sweep
    from clipedu.studies.sweep.space import axes, shown
    from clipedu.training.effects import refuse_without_effect
    from clipedu.utils.markdown import markdown_table
    from clipedu.workflow.starting import experiment_of

    kept = read_sweep_file(args.file) if args.file else {"vary": {}, "variants": {}, "settings": {}}
    preset, changes = args.preset or kept.get("preset", "laptop"), {**kept["settings"], **experiment_changes(args)}
    if "seed" in changes:
        raise ClipeduError(
            f"{args.file}: seed = {changes['seed']!r} among its settings: write seeds = [{changes['seed']!r}] above them"
        )
    base = experiment_of(preset, changes)
    refuse_without_effect([base], set(changes) - set(kept["settings"]))
    vary = {**axes(kept["vary"]), **axes(args.vary or [])}
    compared = {**axes(kept["variants"]), **axes(args.compared or [])}
    for name in (*vary, *compared):
        field, _, item = name.partition(".")
        if field in changes and (not item or item in changes[field]):
            raise ClipeduError(f"{name} is given, and varied too: leave one of them out")
    given = {name: getattr(args, name) if getattr(args, name) is not None else kept.get(name) for name in OPTIONS}
    plan = make_plan(base, vary, compared, **given, given=frozenset(changes))
    stem = args.file.stem if args.file else preset
    folder = Path(args.folder or kept.get("folder", f"runs/sweep-{stem}"))
    args.how_to_go_on = "The same command continues with the trials that are missing."
    with open_sweep(plan, folder, storage=args.storage or kept.get("storage"), join=args.join) as work:
        heading, variants = plan.metric, list(plan.variant_settings())
        print(
            f"{len(variants)} x {plan.trials_of_variant} trials x {len(plan.seeds)} seeds in {folder}/, {work.missing} to do; chosen "
            f"by {heading} on {100 * plan.holdout:g} % of the training pairs, which are held out",
            flush=True,
        )
        for ended in work.trials():
            settings = " ".join(f"{name}={shown(value)}" for name, value in ended.settings.items())
            name = f"trial {ended.number}" if variants == ["all"] else f"{ended.variant}, trial {ended.number}"
            score = "" if ended.score is None else f" {heading} {ended.score:.2f}"
            print(f"{name}: {settings}: {ended.state}{score}{': ' * bool(ended.note)}{ended.note}", flush=True)
        if work.missing:
            print(f"{work.missing} trials are in the hands of other processes; the last to end trains the best.")
        else:
            print("Training the best on all training pairs ...", flush=True)
        found = work.result(work.score_best())
        report = write_sweep(found)
    if len(found.best):
        columns, rows = best_text(found)
        print(f"\n{markdown_table(columns, rows)}")
    for line in found.remarks:
        print(line)
    print(f"\nTables: {folder}/trials.csv, {folder}/best.csv. Report: {report}")
