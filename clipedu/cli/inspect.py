"""`clipedu inspect`: one page on a model, beside its recipe."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.cli.arguments import add_image_size, path, whole, word
from clipedu.config.command_line import add_settings, experiment_changes
from clipedu.config.experiment import checked_setting
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    from clipedu.norms.recipe_balance import TrainingRecipe

RECIPE = ("optimizer", "lr", "weight_decay", "optimizer_options", "schedule", "warmup")  # fields of Experiment


def add_inspect(commands: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add `inspect` to the commands of a parser; `args.command(args)` runs it."""
    text = "one page on a model: norms beside what its recipe says, spectra, logit scale, embeddings, token artifacts"
    parser = commands.add_parser("inspect", help=text, description=text)
    parser.add_argument(
        "model",
        type=word,
        metavar="MODEL",
        help="a run's folder, open_clip:NAME, hf:OWNER/NAME, or a folder or file of theirs",
    )
    parser.add_argument(
        "--weights", type=word, metavar="TAG|FILE|random", help="of a released model, as in `clipedu evaluate`"
    )
    add_image_size(parser, "of a released model")
    parser.add_argument(
        "--eval-data", type=word, metavar="NAME", help="pairs to embed (default: the retrieval set of the run)"
    )
    parser.add_argument(
        "--pairs", type=whole(2), default=1000, metavar="N", help="at most so many of them (default: 1000)"
    )
    parser.add_argument(
        "--folder", type=path, help="where to write the page (default: RUN/inspect, or runs/inspect-MODEL)"
    )
    recipe = parser.add_argument_group(
        "the recipe of a model that is no run, as far as it is known (adamw, cosine, no warm-up where nothing is said)"
    )
    add_settings(recipe, RECIPE, defaults=False)
    recipe.add_argument(
        "--steps", type=whole(1), metavar="N", help="of the whole training; without it only the balance is known"
    )
    parser.set_defaults(command=inspect)
    return parser


def inspect(args: argparse.Namespace) -> None:
    """Inspect a model: print its layers and findings, and write the page."""
    from clipedu.report.inspection_findings import COLUMNS, by_kind, findings
    from clipedu.report.inspection_page import LAYER_COLUMNS, check_place, layer_rows, write_inspection
    from clipedu.training.datasets import evaluation_sets
    from clipedu.utils.markdown import markdown_table
    from clipedu.workflow.blend_data import first_pairs, scoring_settings
    from clipedu.workflow.inspection import inspect_opened
    from clipedu.workflow.opening import open_model

    recipe = _recipe(args)
    one = open_model(args.model, args.weights, image_size=args.image_size)
    if one.run is not None and recipe is not None:
        raise ClipeduError(
            f"{_first(args)} has no effect: {args.model} is a run, which has its own recipe. Leave it out"
        )
    folder = args.folder or _folder(one)
    sets = evaluation_sets(scoring_settings(one, eval_data=args.eval_data))
    check_place(folder)
    found = inspect_opened(one, first_pairs(sets[0], args.pairs), recipe=recipe)
    shown = [row[:6] + row[7:] for row in layer_rows(found)]
    print(markdown_table([name for name in LAYER_COLUMNS if name != "rms"], shown))
    if rows := by_kind(found):
        print(f"\n{markdown_table(COLUMNS, rows)}")
    for title, lines in (("What stands out", findings(found)), ("What is not known", found.unknown)):
        if lines:
            print(f"\n{title}:")
            print("\n".join(f"- {line}" for line in lines))
    print(f"\nPage: {write_inspection(found, folder)}")


def _folder(one: Any) -> Path:
    """Return where the page of a model is written."""
    if one.run is not None:
        return one.run.folder / "inspect"
    return Path("runs") / ("inspect-" + re.sub(r"[^\w.-]+", "_", one.name)[:100])


def _recipe(args: argparse.Namespace) -> TrainingRecipe | None:
    """Return the recipe that the options say, None without any.

    Raises:
        ClipeduError: a part of it is missing, or would have no effect.
    """
    from clipedu.norms.recipe_balance import TrainingRecipe, scheduled_rates
    from clipedu.optim import OPTIMIZERS

    given = {name: checked_setting(name, value) for name, value in experiment_changes(args).items() if name in RECIPE}
    if not given and args.steps is None:
        return None
    if missing := [_option(name) for name in ("lr", "weight_decay") if name not in given]:
        raise ClipeduError(f"{_first(args)} alone is no recipe: give {' and '.join(missing)} too")
    if args.steps is None and (idle := [name for name in ("schedule", "warmup") if name in given]):
        raise ClipeduError(f"{_option(idle[0])} has no effect without --steps: give the number of steps, too")
    schedule, rates = given.get("schedule", "cosine"), None
    if args.steps is not None:
        rates = scheduled_rates(args.steps, given["lr"], schedule=schedule, warmup=given.get("warmup", 0.0))
    options = given.get("optimizer_options", {})
    optimizer = OPTIMIZERS[given.get("optimizer", "adamw")].name
    return TrainingRecipe(optimizer, given["lr"], given["weight_decay"], options, rates, schedule)


def _first(args: argparse.Namespace) -> str:
    """Return the first option of the recipe that was given."""
    return next((_option(name) for name in RECIPE if hasattr(args, name)), "--steps")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
