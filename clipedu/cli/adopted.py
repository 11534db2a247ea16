"""`clipedu evaluate --model` and `groups --model`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from clipedu.cli.left_out import print_left_out
from clipedu.cli.probes import asks_for_tables, print_tables
from clipedu.config.experiment import Experiment
from clipedu.report.score_table import scores_text
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    from clipedu.data.pairs import Pairs
    from clipedu.models.dual_encoder import DualEncoder

SCORES = "scores.json"  # in the folder that --folder names
SCALES = ("image_lr_scale", "text_lr_scale", "layer_decay")
OF_OPTIMIZER = (
    "optimizer",
    "optimizer_options",
    "lr",
    "weight_decay",
    *SCALES,
)  # settings that a model's groups depend on


def evaluate_adopted(args: argparse.Namespace) -> None:
    """Score a released model and print its scores; with --folder keep them.

    Raises:
        ClipeduError: a model or a set that is not there or does not fit, no set, or a folder that has scores already.
    """
    from clipedu.evaluation.scoring import average, evaluate
    from clipedu.interop.adoption import adopt
    from clipedu.runs.folders import check_no_run
    from clipedu.training.datasets import describe
    from clipedu.utils.device import pick_device
    from clipedu.utils.files import check_writable, write_json

    if args.data is None and args.zeroshot_data is None:
        raise ClipeduError(
            "--model needs pairs to score on: --data NAME (captions), --zeroshot-data NAME (labels), or both"
        )
    kept = args.folder / SCORES if args.folder is not None else None
    if kept is not None and kept.exists():
        raise ClipeduError(f"{kept} is there already: give another --folder")
    if kept is not None:
        check_no_run(args.folder)
        check_writable(args.folder)
    tables = asks_for_tables(args)
    model = adopt(args.model, args.weights, image_size=args.image_size).to(pick_device("auto"))
    sets = _sets(args, model)
    if tables:
        print_tables(args, model, sets, math.exp(-(model.logit_scale or 0.0)), args.folder)
        return
    metrics: dict[str, float] = {}
    for pairs in sets:
        metrics |= evaluate(model, pairs, progress=True)
    metrics["average"] = average(metrics)
    print(scores_text(metrics))
    for pairs in sets:
        print_left_out(f"{pairs.name}/{pairs.split}", pairs.skipped, pairs.left_out)
    if kept is not None:
        facts = {"model": args.model, "weights": args.weights, "resize": model.resize, "image_size": model.image_size}
        write_json(kept, facts | {"data": [describe(pairs) for pairs in sets], "scores": metrics})
        print(f"\nKept in {kept}")


def adopted_groups(args: argparse.Namespace, changes: dict[str, Any]) -> None:
    """Print the parameter groups of an optimizer for a released model.

    Args:
        args: with the model and its weights.
        changes: settings of the experiment that were given; only those of the optimizer count.
    Raises:
        ClipeduError: another setting was given, or a model that is not there.
    """
    from clipedu.interop.adoption import adopt
    from clipedu.optim import build_optimizer, describe_groups
    from clipedu.optim.lr_scales import tower_scales

    _refuse(changes, OF_OPTIMIZER, "the groups of a released model")
    ex = Experiment.preset(args.preset or "laptop", **changes)
    model = adopt(args.model, args.weights)
    scales = tower_scales(model, image=ex.image_lr_scale, text=ex.text_lr_scale, layer_decay=ex.layer_decay)
    settings: dict[str, Any] = {"lr": ex.lr, "weight_decay": ex.weight_decay, "lr_scales": scales}
    print(describe_groups(build_optimizer(model, ex.optimizer, **settings, **ex.optimizer_options)))


def _refuse(given: Collection[str], allowed: Collection[str], what: str) -> None:
    for name in given:
        if name not in allowed:
            options = ", ".join(f"--{other.replace('_', '-')}" for other in allowed)
            raise ClipeduError(f"--{name.replace('_', '-')} has no effect on {what}, which take {options}")


def _sets(args: argparse.Namespace, model: DualEncoder) -> list[Pairs]:
    """Open the sets, with images as the model reads them."""
    from clipedu.data.load import load_pairs
    from clipedu.data.prompts import choose_prompts

    shape: dict[str, Any] = {"image_size": model.image_size, "resize": model.resize}
    sets = [] if args.data is None else [load_pairs(args.data, "val", **shape)]
    if sets and len(sets[0]) < 2:
        raise ClipeduError(f"{args.data} has {len(sets[0])} pair to score on, and retrieval needs at least 2")
    labelled = args.zeroshot_data or ("scenes" if args.data == "scenes" else None)
    if labelled is not None:
        pairs = load_pairs(labelled, "zeroshot", **shape)
        sets.append(choose_prompts(pairs, args.class_names or "clipedu", args.templates or "clipedu"))
    elif args.class_names or args.templates:
        raise ClipeduError("--class-names and --templates need labelled images: give them with --zeroshot-data")
    return sets
