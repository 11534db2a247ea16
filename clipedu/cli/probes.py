"""`clipedu evaluate RUN --probe | --calibrate | --corrupt`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipedu.cli.arguments import whole, word
from clipedu.utils.errors import ClipeduError, unknown_name

if TYPE_CHECKING:
    import pandas

    from clipedu.data.pairs import Pairs
    from clipedu.evaluation.calibration import Calibration
    from clipedu.models.dual_encoder import DualEncoder

NEEDS = {
    "shots": "probe",
    "seeds": "probe",
    "probe_data": "probe",
    "severity": "corrupt",
}  # option -> what it belongs to


def add_probes(parser: argparse.ArgumentParser) -> None:
    """Add the options of probes, calibration and corruptions."""
    own = parser.add_argument_group(
        "further scores", "tables in place of the scores, also kept in the run's folder as CSV"
    )
    own.add_argument(
        "--probe",
        nargs="+",
        action="extend",
        metavar="PROBE",
        type=word,
        help="classifiers on frozen image features, scored on the zero-shot set: linear, knn, gda",
    )
    own.add_argument(
        "--shots",
        nargs="+",
        action="extend",
        type=_shots,
        metavar="K",
        help='with --probe: pictures a class to train on, or "all" (default)',
    )
    own.add_argument(
        "--seeds",
        nargs="+",
        action="extend",
        type=whole(0),
        metavar="S",
        help="with --shots: of the draws (default 0 1 2)",
    )
    own.add_argument(
        "--probe-data",
        type=word,
        metavar="NAME",
        help="with --probe: whose split train to train on (default: the zero-shot set's)",
    )
    own.add_argument(
        "--calibrate",
        action="store_true",
        help="is the zero-shot classifier right as often as it is sure? With a fitted temperature",
    )
    own.add_argument(
        "--corrupt",
        nargs="+",
        action="extend",
        metavar="NAME",
        type=word,
        help='scores on corrupted pictures: names of "clipedu list corruptions", or all',
    )
    own.add_argument(
        "--severity",
        nargs="+",
        action="extend",
        type=whole(1, 5),
        metavar="N",
        help="with --corrupt: 1 (slight) to 5 (strong) (default: all five)",
    )


def asks_for_tables(args: argparse.Namespace) -> bool:
    """Return whether probes, calibration or corruptions are asked for.

    Raises:
        ClipeduError: an unknown name, or an option that would do nothing without them.
    """
    from clipedu.data.corruptions import CORRUPTIONS
    from clipedu.evaluation.probes import build_probes

    for option, needed in NEEDS.items():
        if getattr(args, option) is not None and getattr(args, needed) is None:
            raise ClipeduError(
                f"--{option.replace('_', '-')} has no effect without --{needed}: give --{needed} NAME as well"
            )
    build_probes(args.probe or ())
    if args.corrupt and "all" in args.corrupt:
        if len(args.corrupt) > 1:
            raise ClipeduError("--corrupt all is every corruption: leave out the other names")
        args.corrupt = list(CORRUPTIONS)
    for name in args.corrupt or ():
        if name not in CORRUPTIONS:
            raise unknown_name("corruption", name, CORRUPTIONS)
    return bool(args.probe or args.calibrate or args.corrupt)


def print_tables(
    args: argparse.Namespace, model: DualEncoder, sets: Sequence[Pairs], temperature: float, folder: Path | None = None
) -> None:
    """Compute and print what `--probe`, `--calibrate` and `--corrupt` ask for.

    Sets that are missing are told before anything is computed.

    Args:
        args: of the command, after `asks_for_tables`.
        model: with its tokenizer.
        sets: to score on.
        temperature: of the model.
        folder: of the run, in which the tables are kept; None keeps nothing.
    Raises:
        ClipeduError: a set that is missing, or cannot be used for it.
    """
    from clipedu.data.labelled import labelled_training
    from clipedu.workflow.probing import keep_reliability, keep_table

    def keep(name: str, table: pandas.DataFrame, on: str) -> None:
        if folder is not None:
            print(f"All numbers: {keep_table(folder, name, table.assign(set=on, checkpoint=_weights(args)))}")

    scored = _zero_shot_set(sets) if args.probe or args.calibrate else sets[-1]
    name = f"{scored.name}/{scored.split}"
    train = labelled_training(scored, args.probe_data) if args.probe else scored
    if args.corrupt:
        from clipedu.data.corruptions import SEVERITIES
        from clipedu.evaluation.robustness import corruption_scores, mean_drops

        scores = corruption_scores(model, sets, args.corrupt, args.severity or SEVERITIES, progress=True)
        print(corruptions_text(scores, mean_drops(scores)))
        keep("corruptions", scores, ", ".join(f"{pairs.name}/{pairs.split}" for pairs in sets))
    if args.calibrate:
        from clipedu.evaluation.calibration import calibrate_zero_shot

        found = calibrate_zero_shot(model, scored, temperature, progress=True)
        print(calibration_text(found, name))
        if folder is not None:
            print(f"Reliability diagram: {keep_reliability(folder, found)}")
        keep("calibration", found.table, name)
    if args.probe:
        from clipedu.evaluation.few_shot import SEEDS, probe_scores, summarise

        table = probe_scores(
            model,
            train,
            scored,
            probes=args.probe,
            shots=[None if k == "all" else k for k in args.shots or ["all"]],
            seeds=args.seeds or SEEDS,
            logit_scale=1 / temperature,
            progress=True,
        )
        print(probes_text(summarise(table), train, scored))
        keep("probes", table, f"{train.name}/{train.split} -> {name}")


def probes_text(summary: pandas.DataFrame, train: Pairs, scored: Pairs) -> str:
    """Return the table of probes as lines.

    Args:
        summary: of `clipedu.evaluation.few_shot.summarise`.
        train, scored: the two sets.
    """
    shots = list(dict.fromkeys(_count(k) for k in summary["shots"]))
    columns = [k for k in shots if k != "0"]
    rows = []
    for (place, probe), group in summary.groupby(["features", "probe"], sort=False):
        cells = {_count(row.shots): _mean(row.top1, row.interval) for row in group.itertuples()}
        rows.append(
            [place, probe, *([cells["0"]] * len(columns) if "0" in cells else [cells.get(k, "") for k in columns])]
        )
    heading = ["features", "probe", *(f"{k} shot{'s' * (k != '1')}" for k in columns)]
    classes = len(train.labels.unique()) if train.labels is not None else 0
    most = int(summary["seeds"].max())
    spread = f"; mean of {most} draws and Student's 95 % interval" if most > 1 else ""
    return "\n".join(
        [
            f"\nTop-1 (%) of {classes} classes on {len(scored):,} pictures of {scored.name}/{scored.split}, chance {100 / classes:.3g}{spread}",
            *_lines(heading, rows, left=2),
            f"trained on pictures of {train.name}/{train.split}; shots are pictures a class",
        ]
    )


def calibration_text(found: Calibration, name: str) -> str:
    """Return the table of calibration as lines.

    Args:
        found: of `clipedu.evaluation.calibration.calibrate_zero_shot`.
        name: of the set.
    """
    from clipedu.evaluation.metrics import CALIBRATION

    headings = [
        f"{metric.heading} ({metric.unit})" if metric.unit != "1" else metric.heading for metric in CALIBRATION.values()
    ]
    rows = [
        [
            row["probabilities"],
            *(f"{row[key]:.4g}" if key == "temperature" else f"{row[key]:.2f}" for key in CALIBRATION),
        ]
        for row in found.table.to_dict("records")
    ]
    return "\n".join(
        [
            f"\nCalibration of zero-shot classification on {name}",
            *_lines(["", *headings], rows, left=1),
            f"temperature fitted on {found.fitted_on:,} pictures, both rows measured on the other {found.measured_on:,}",
        ]
    )


def corruptions_text(scores: pandas.DataFrame, drops: pandas.DataFrame) -> str:
    """Return the table of corruptions as lines.

    Args:
        scores: of `clipedu.evaluation.robustness.corruption_scores`.
        drops: of `mean_drops`.
    """
    from clipedu.evaluation.metrics import SCORES

    keys = [key for key in SCORES if key in scores]
    rows = [
        [row["corruption"], f"{row['severity']:.0f}" if row["severity"] else "", *(f"{row[key]:.2f}" for key in keys)]
        + [f"{row['drop']:.2f}" if row["severity"] else ""]
        for row in scores.to_dict("records")
    ]
    means = [
        [
            row["corruption"],
            f"{row['average']:.2f}",
            f"{row['drop']:.2f}",
            "" if math.isnan(row["left"]) else f"{100 * row['left']:.0f}",
        ]
        for row in drops.to_dict("records")
    ]
    return "\n".join(
        [
            "\nScores (%) on corrupted pictures; drop: of the average, in percentage points",
            *_lines(["corruption", "severity", *(SCORES[key] for key in keys), "drop"], rows, left=1),
            "\nMean over the severities",
            *_lines(["corruption", "average", "mean drop", "left (%)"], means, left=1),
        ]
    )


def _lines(heading: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Align a table; its first `left` columns to the left."""
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" if place < left else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (heading, *rows)
    ]


def _mean(mean: float, half: float) -> str:
    return f"{mean:.2f}" if math.isnan(half) else f"{mean:.2f} ± {half:.2f}"


def _count(shots: float) -> str:
    return "all" if math.isnan(shots) else f"{shots:.0f}"


def _weights(args: argparse.Namespace) -> str:
    return args.checkpoint + ", averaged" * args.averaged


def _zero_shot_set(sets: Sequence[Pairs]) -> Pairs:
    for pairs in sets:
        if pairs.labels is not None and pairs.class_names is not None:
            return pairs
    raise ClipeduError(
        "there is no zero-shot set, and probes and calibration need one: give labelled pictures with --zeroshot-data NAME (scenes are "
        "always there)"
    )


def _shots(text: str) -> int | str:
    return "all" if text == "all" else whole(1)(text)
