"""Scores on corrupted pictures: how much of each is left.

The measure is the drop of a score, in percentage points, and its mean over severities and corruptions. (The mCE of arXiv:1903.12261
divides errors by those of AlexNet on the same pictures, which there are only for ImageNet.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

from clipedu.data.corruptions import SEVERITIES, corrupted
from clipedu.data.pairs import Pairs
from clipedu.evaluation.metrics import AVERAGED
from clipedu.evaluation.recall import class_prototypes, retrieval, zero_shot
from clipedu.evaluation.scoring import average
from clipedu.inference.embed import embed_captions, embed_images
from clipedu.models.dual_encoder import DualEncoder
from clipedu.utils.checks import check_distinct
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import check_model

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

CLEAN, ALL = "none", "all"


def corruption_scores(
    model: DualEncoder,
    sets: Sequence[Pairs],
    corruptions: Sequence[str],
    severities: Sequence[int] = SEVERITIES,
    *,
    seed: int = 0,
    progress: bool = False,
) -> pandas.DataFrame:
    """Score a model on corrupted pictures of the same sets.

    Captions and class names stay, and are embedded once.

    Args:
        model: with its tokenizer.
        sets: to score on: with captions (TR@1 and IR@1), or labels and class names (top-1). Of two of a kind the last counts.
        corruptions: keys of `clipedu.data.corruptions.CORRUPTIONS`.
        severities: of each, 1 to 5.
        seed: of what is random in a corruption.
        progress: show a progress bar.
    Returns:
        a row for the clean pictures ("corruption" is "none", "severity" 0), then one for each corruption and severity: "tr@1", "ir@1"
        and "top1" as far as the sets have them, and "average", in percent; "drop", of the average, in percentage points.
    Raises:
        ClipeduError: an unknown corruption or severity, or nothing to score.
        NotFinite: a weight or an embedding is not finite.
    """
    import pandas

    for what, values in (("corruptions", corruptions), ("severities", severities)):
        check_distinct(what, values)
        if not values:
            raise ClipeduError(f"{what}: give at least one")
    cells = [(name, severity) for name in corruptions for severity in severities]
    worse = {cell: [corrupted(pairs, *cell, seed=seed) for pairs in sets] for cell in cells}
    check_model(model)
    judges = [judge for pairs in sets for judge in _judges(model, pairs)]
    if not judges:
        raise ClipeduError("there is nothing to score: the sets have neither captions nor named classes")
    rows = []
    todo: list[tuple[tuple[str, int], Sequence[Pairs]]] = [((CLEAN, 0), sets), *worse.items()]
    for (name, severity), views in tqdm(todo, desc="corruptions", disable=not progress, leave=False, delay=1):
        scores: dict[str, float] = {}
        for pairs, view in zip(sets, views, strict=True):
            image = embed_images(model, view).to(model.device)
            for own, judge in judges:
                if own is pairs:
                    scores |= judge(image)
        shown = {key: scores[key] for key in AVERAGED if key in scores}
        rows.append({"corruption": name, "severity": severity, **shown, "average": average(scores)})
    frame = pandas.DataFrame(rows)
    return frame.assign(drop=frame["average"].iloc[0] - frame["average"])


def mean_drops(scores: pandas.DataFrame) -> pandas.DataFrame:
    """Take means over the severities.

    Args:
        scores: of `corruption_scores`.
    Returns:
        a row for each corruption, and one for "all", the mean of these: "average" in percent, "drop" in percentage points, and "left",
        the share of the clean average that is left (nan where that is 0).
    """
    import pandas

    clean = float(scores["average"].iloc[0])
    means = scores.iloc[1:].groupby("corruption", sort=False)[["average", "drop"]].mean().reset_index()
    every = pandas.DataFrame([{"corruption": ALL, "average": means["average"].mean(), "drop": means["drop"].mean()}])
    table = pandas.concat([means, every], ignore_index=True)
    return table.assign(left=table["average"] / clean if clean else float("nan"))


def _judges(model: DualEncoder, pairs: Pairs) -> list[tuple[Pairs, Callable[[Tensor], dict[str, float]]]]:
    """Return what scores image embeddings of a set; its texts are embedded once, here."""
    found: list[tuple[Pairs, Callable[[Tensor], dict[str, float]]]] = []
    labels, names = pairs.labels, pairs.class_names
    if pairs.split != "zeroshot" and pairs.captions(0):
        text, owner = (x.to(model.device) for x in embed_captions(model, pairs))
        found.append((pairs, lambda image: retrieval(image, text, owner, model.geometry)))
    if labels is not None and names is not None:
        prototypes, labels = (x.to(model.device) for x in (class_prototypes(model, names, pairs.templates), labels))
        found.append((pairs, lambda image: zero_shot(image, prototypes, labels, model.geometry)))
    return found
