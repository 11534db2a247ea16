"""`clipedu blend`: weights between two models, or the mean of many."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from clipedu.cli.arguments import path, whole, word
from clipedu.utils.errors import ClipeduError, quoted


def add_blend(commands: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add `blend` to the commands of a parser; `args.command(args)` runs it."""
    text = "scores on the straight line between the weights of two models, or of the mean of many (a soup)"
    parser = commands.add_parser(
        "blend", help=text, description=text, epilog="An example: clipedu blend runs/before runs/after --keep 0.5"
    )
    parser.add_argument(
        "models", nargs="+", type=word, metavar="MODEL", help="folders of runs: A and B, or all of a soup"
    )
    parser.add_argument("--points", type=whole(2), metavar="N", help="points on the line, with both ends (default: 11)")
    parser.add_argument(
        "--keep",
        nargs="+",
        action="extend",
        type=share,
        metavar="T",
        help="write the model (1 - T) A + T B as a run, which clipedu evaluate opens",
    )
    parser.add_argument(
        "--soup",
        type=word,
        metavar="uniform|greedy",
        help="the mean of all models; or of those that do not lower the score on pairs held out. It is written as a run",
    )
    parser.add_argument(
        "--choose-data",
        type=word,
        metavar="NAME",
        help="set whose val split a greedy soup is chosen by (default: what --holdout has kept from the training)",
    )
    parser.add_argument(
        "--statistics",
        choices=("recompute", "interpolate"),
        help="of batch norms: recompute them on training pictures for each mix (default), or interpolate them like weights, "
        "with which the middle of a line looks worse than it is",
    )
    parser.add_argument(
        "--statistics-data", type=word, metavar="NAME", help="recompute them on this set (default: training pairs of A)"
    )
    parser.add_argument("--statistics-pictures", type=whole(2), metavar="N", help="on so many pictures (default: 2048)")
    parser.add_argument("--eval-data", type=word, metavar="NAME", help="another retrieval set than that of A")
    parser.add_argument("--zeroshot-data", type=word, metavar="NAME", help="another zero-shot set than that of A")
    parser.add_argument(
        "--folder", type=path, help="where to write to (default: runs/blend-A-B, or the next free number)"
    )
    parser.set_defaults(command=blend)
    return parser


def share(text: str) -> float:
    """Read a number from 0 to 1.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a number from 0 to 1: 0 is A, 1 is B")
    return value


def blend(args: argparse.Namespace) -> None:
    """Score a line between two models, or make a soup, and print the scores."""
    _check_options(args)
    from clipedu.training.datasets import evaluation_sets
    from clipedu.workflow.blend_data import leading, open_all, scoring_settings, statistics_data
    from clipedu.workflow.blend_folder import blend_folder, check_runs
    from clipedu.workflow.blending import check_alike

    folder = blend_folder(args.models, args.folder)
    models = open_all(args.models)
    if args.keep or args.soup:
        check_runs(models)
    check_alike(models)
    statistics = statistics_data(
        models, how=args.statistics, data=args.statistics_data, pictures=args.statistics_pictures
    )
    settings = scoring_settings(
        leading(models), eval_data=args.eval_data, zeroshot_data=args.zeroshot_data, soup=args.soup is not None
    )
    sets = evaluation_sets(settings)
    shared = {"sets": sets, "settings": settings, "statistics": statistics}
    print(f"Scored on {' and '.join(f'{len(p):,} rows of {p.name}/{p.split}' for p in sets)}.", flush=True)
    for one in models:
        for line in _trained_lines(one, sets):
            print(f"{one.name}: {line}")
    if args.soup is None:
        _line(args, models, folder, **shared)
    else:
        _soup(args, models, folder, **shared)


def _line(
    args: argparse.Namespace, models: list[Any], folder: Path, *, sets: Any, settings: Any, statistics: Any
) -> None:
    """Score a line, print it, and write it."""
    from clipedu.evaluation.barrier import barrier_text
    from clipedu.workflow.blend_folder import keep_mix, write_line
    from clipedu.workflow.blending import blend_line

    head = _Table("t", 30)
    line = blend_line(models[0], models[1], sets, points=args.points or 11, statistics=statistics, progress=head.row)
    print()
    if line.statistics == "recomputed":
        print(
            f"Batch-norm statistics between the ends were recomputed on {sum(map(len, statistics.batches())):,} pictures of "
            f"{statistics.pairs.name}/{statistics.pairs.split}; that alone moves the average of A from {_moved(line, 0)} and that of B "
            f"from {_moved(line, 1)}. The barrier is measured from the ends with recomputed statistics."
        )
    if line.statistics == "interpolated":
        print(
            "Batch-norm statistics were interpolated like weights, which do not fit: the middle is better than it looks."
        )
    if len(line.curve("average")[0]) > 2:
        print(barrier_text(line.barrier(), line.errors["average"], "points of the average"))
        print(_best(line))
    paths = write_line(line, folder)
    for t in args.keep or ():
        run = keep_mix(
            models, [1 - t, t], folder / f"t-{t:g}", sets=sets, settings=settings, statistics=statistics,
            command=_command(args, "--keep", f"{t:g}"),
        )  # fmt: skip
        print(f"Kept t = {t:g}: clipedu evaluate {run.folder}")
    print(f"Table: {paths[0]}. Figure: {paths[1]}")


def _moved(line: Any, end: int) -> str:
    """Return the average of an end as it is and with recomputed statistics."""
    return f"{line.ends('average')[end]:.2f} to {line.curve('average')[1][-end]:.2f}"


def _best(line: Any) -> str:
    """Say which point has the highest average, and what that is worth."""
    t, values = line.curve("average")
    best = int(values.argmax())
    if best in (0, len(t) - 1):
        return f"The best average is that of an end, {line.names[0 if best == 0 else 1]}."
    return (
        f"The best average is {values[best]:.2f}, at t = {t[best]:g}. It is chosen by the scores on these sets, so it is too high by "
        "luck: score the model on others (--keep, then clipedu evaluate --eval-data)."
    )


def _soup(
    args: argparse.Namespace, models: list[Any], folder: Path, *, sets: Any, settings: Any, statistics: Any
) -> None:
    """Make a soup, print the scores of it and of its parts, and write it."""
    from clipedu.workflow.blend_folder import keep_mix, write_soup
    from clipedu.workflow.soups import blend_soup, held_out_part

    held_out = None
    if args.soup == "greedy":
        held_out = held_out_part(models, sets, args.choose_data)
        print(
            f"Chosen by the average on {len(held_out):,} pairs of {held_out.name}/{held_out.split}, which are not scored below."
        )
    table = _Table("model", max(30, *(len(one.name) + 12 for one in models)))
    soup = blend_soup(models, args.soup, sets, held_out=held_out, statistics=statistics, progress=table.row)
    print()
    if soup.held_out is not None:
        kept = soup.held_out[soup.held_out["kept"]]["model"]
        print(f"{len(kept)} of {len(models)} models are in the soup: {', '.join(kept)}")
    paths = write_soup(soup, folder)
    run = keep_mix(
        models,
        soup.weights,
        folder / "soup",
        sets=sets,
        settings=settings,
        statistics=statistics,
        command=_command(args),
    )
    print(f"The soup is a run: clipedu evaluate {run.folder}")
    print(f"{'Tables' if len(paths) > 1 else 'Table'}: {', '.join(map(str, paths))}")


class _Table:
    """Prints rows of scores, with a heading before the first and wherever other scores begin."""

    def __init__(self, what: str, width: int):
        self.what, self.width = what, width
        self.shown: dict[str, str] = {}

    def row(self, words: str, scores: dict[str, float]) -> None:
        from clipedu.evaluation.metrics import SCORES

        shown = {key: heading for key, heading in SCORES.items() if key in scores}
        if shown != self.shown:
            print(f"\n{self.what:<{self.width}} {' '.join(f'{h:>8}' for h in shown.values())}")
            self.shown = shown
        print(f"{words:<{self.width}} {' '.join(f'{scores[key]:8.2f}' for key in shown)}", flush=True)


def _trained_lines(one: Any, sets: Any) -> list[str]:
    """Say how much of the sets a model was trained on."""
    from clipedu.evaluation.held_out import trained_counts, trained_lines
    from clipedu.runs.trained_rows import shared_with_training

    if one.run is None:
        return []
    return [
        line
        for pairs in sets
        for line in trained_lines(
            trained_counts(pairs, shared_with_training(one.run.folder, pairs))
            | {"retrieval_images": len(pairs), "zeroshot_images": len(pairs)}
        )
    ]


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that would do nothing, and numbers of models that do not fit."""
    if args.soup is None:
        if len(args.models) != 2:
            raise ClipeduError(
                f"a line is between two models, and {len(args.models)} {'is' if len(args.models) == 1 else 'are'} given: give two, or "
                "--soup uniform or --soup greedy for the mean of many"
            )
        if args.choose_data is not None:
            raise ClipeduError(f"--choose-data {args.choose_data} has no effect: it is for --soup greedy")
        return
    from clipedu.utils.errors import unknown_name
    from clipedu.workflow.soups import SOUPS

    if args.soup not in SOUPS:
        raise unknown_name("soup", args.soup, SOUPS)
    if args.points is not None or args.keep is not None:
        option = "--points" if args.points is not None else "--keep"
        raise ClipeduError(f"{option} has no effect on a soup: it is one model, which is written as a run in any case")
    if args.choose_data is not None and args.soup == "uniform":
        raise ClipeduError(f"--choose-data {args.choose_data} has no effect on a uniform soup, which chooses nothing")


def _command(args: argparse.Namespace, *more: str) -> str:
    """Return the command that makes the same blend again."""
    options = (
        "soup",
        "choose_data",
        "statistics",
        "statistics_data",
        "statistics_pictures",
        "eval_data",
        "zeroshot_data",
    )
    words = [
        word
        for name in options
        if (value := getattr(args, name)) is not None
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    return shlex.join(["clipedu", "blend", *args.models, *words, *more])
