"""The course's published table: five losses x three optimizers, as data.

The table is from the slides "CSCE 636 Deep Learning: Improving CLIP Training" (S. K. Paul, P. Chalasani): ResNet-50 and
DistilBERT trained for 30 epochs on 100,000 pairs of CC3M, retrieval on 5,000 COCO images with 25,009 captions, zero-shot
classification on ImageNet-1k; percent, one run each. The average of TR@1, IR@1 and top-1 is computed here. Two printed
averages do not follow from their own row; they are kept in the column `printed` and marked in the column `corrected`.

>>> course_table().query("corrected")[["loss", "optimizer", "printed", "average"]].round(2)
     loss optimizer  printed  average
0  sogclr     adamw    16.68    16.01
1    clip     adamw    14.81    14.15
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

LOSSES = {"sogclr": "SogCLR", "clip": "CLIP", "cyclip": "CyCLIP", "vicreg": "VICReg", "onlineclr": "OnlineCLR"}
OPTIMIZERS = {"adamw": "AdamW", "sgd": "SGD", "adam": "Adam"}

# optimizer, loss, TR@1, IR@1, top-1, average as printed
_PUBLISHED = (
    ("adamw", "sogclr", 13.18, 10.3, 24.55, 16.68),
    ("adamw", "clip", 11.62, 9.16, 21.66, 14.81),
    ("adamw", "cyclip", 14.1, 10.68, 25.91, 16.9),
    ("adamw", "vicreg", 2.86, 2.16, 5.79, 3.6),
    ("adamw", "onlineclr", 10.96, 8.64, 20.52, 13.37),
    ("sgd", "sogclr", 1.56, 1.0, 2.87, 1.81),
    ("sgd", "clip", 10.3, 7.0, 17.01, 11.44),
    ("sgd", "cyclip", 10.38, 7.31, 16.86, 11.52),
    ("sgd", "vicreg", 2.0, 1.6, 2.43, 2.01),
    ("sgd", "onlineclr", 0.74, 0.56, 1.5, 0.93),
    ("adam", "sogclr", 0.1, 0.1, 0.23, 0.14),
    ("adam", "clip", 3.34, 3.03, 4.71, 3.69),
    ("adam", "cyclip", 3.92, 3.25, 4.04, 3.74),
    ("adam", "vicreg", 0.66, 0.63, 1.28, 0.86),
    ("adam", "onlineclr", 0.02, 0.02, 0.1, 0.05),
)
_BENCHMARKS = (
    ("adamw", "clip", 12.0, 9.32, 21.35, 14.22),
    ("adamw", "sogclr", 14.38, 10.73, 24.54, 16.55),
)


def course_table() -> pandas.DataFrame:
    """Return the 15 published cells, in the published order.

    Columns: optimizer, loss (names as in `clipedu.LOSSES`), tr@1, ir@1, top1 (percent, as published), average (percent, computed
    from these three), printed (percent, the average in print), corrected (True where the two differ by more than rounding).
    """
    return _frame(_PUBLISHED)


def course_benchmarks() -> pandas.DataFrame:
    """Return the two reference rows that the course set as the minimum.

    Columns as in `course_table`.
    """
    return _frame(_BENCHMARKS)


def _frame(rows: tuple) -> pandas.DataFrame:
    import pandas

    table = pandas.DataFrame(rows, columns=["optimizer", "loss", "tr@1", "ir@1", "top1", "printed"])
    table["average"] = table[["tr@1", "ir@1", "top1"]].mean(axis=1)
    table["corrected"] = (table["average"] - table["printed"]).abs() > 0.01
    return table[["optimizer", "loss", "tr@1", "ir@1", "top1", "average", "printed", "corrected"]]


def display_name(name: str) -> str:
    """Return the usual spelling of a name: "cyclip" -> "CyCLIP".

    Names that the course did not use stay as they are.
    """
    return LOSSES.get(name) or OPTIMIZERS.get(name) or name


def in_course_order(names: Iterable[str]) -> list[str]:
    """Sort distinct names: in the course's order, the others by alphabet."""
    course = [*LOSSES, *OPTIMIZERS]
    return sorted(set(names), key=lambda name: (course.index(name) if name in course else len(course), name))


def rank_correlation(averages: Mapping[tuple[str, str], float]) -> tuple[float, int]:
    """Return the rank correlation of our averages with the course's.

    It is Spearman's, over the cells that both have. Only orderings can be compared, because the data and the scale
    differ; +1 is the same order, -1 the opposite one.

    Args:
        averages: (loss, optimizer) -> average in percent. Values that are not numbers (nan) are left out.
    Returns:
        the correlation (Pearson's of the ranks, ties get their mean rank), nan below two shared cells or if all are
        equal; and the number of shared cells.
    """
    import numpy

    from clipedu.utils.statistics import rank_correlation as spearman

    course = course_table().set_index(["loss", "optimizer"])["average"].to_dict()
    shared = [cell for cell, value in averages.items() if cell in course and not math.isnan(value)]
    ours, theirs = (numpy.array([table[cell] for cell in shared]) for table in (averages, course))
    ordered = len(set(ours)) > 1 and len(set(theirs)) > 1
    return float(spearman(ours, theirs)) if ordered else math.nan, len(shared)
