"""Metrics: key, heading, definition and unit of every measure of a model.

`METRICS` holds everything that a run's metrics.json can hold besides the sizes of its test sets (`COUNTS`) and how much of
them was trained on (`TRAINED`); tables, plots and pages select from it by key, and define no measure of their own.

>>> METRICS["tr@1"].heading, METRICS["tr@1"].unit
('TR@1', '%')
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One measure of a model.

    Attributes:
        key: in metrics.json.
        heading: of its column or row in any table.
        definition: what is measured.
        unit: "%" (0 to 100), "share" (0 to 1), "correlation" (-1 to 1), "distance" (in the run's own geometry), "nats", or "1".
        higher_is_better: None where neither direction is better.
        chance: what an untrained model is expected to reach; a key where it is measured as a metric of its own; None where it
            depends on the size of the test set (`clipedu.evaluation.uncertainty.chance_levels`), or where there is none.
        task: of a score by rank, the two sides of the ranking.
        short: the definition in a few words, for a terminal.
    """

    key: str
    heading: str
    definition: str
    unit: str
    higher_is_better: bool | None = None
    chance: float | str | None = None
    task: str = ""
    short: str = ""

    @property
    def explanation(self) -> str:
        """The definition, with "in percent" and a fixed level of chance, if any."""
        percent = ", in percent" if self.unit == "%" else ""
        chance = f"; chance {self.chance:g}" if isinstance(self.chance, float) else ""
        return f"{self.definition}{percent}{chance}"


def _at_ranks(
    key: str, heading: str, ranks: tuple[int, ...], task: str, definition: str, short: str
) -> Iterator[Metric]:
    """Make one metric a rank k, with k in the key and the heading."""
    for k in ranks:
        yield Metric(f"{key}{k}", f"{heading}{k}", definition, "%", True, None, task, short if k == 1 else "")


_FOILS = {
    "shape": "the shape of the first object",
    "colour": "the colour of the first object",
    "size": "the size of the first object",
    "background": "the background",
    "place": "where the object is",
    "relation": "how the objects stand to each other (above for below)",
    "binding": "whose colour is whose (the two objects exchange them)",
}

_TABLE = (
    *_at_ranks(
        "tr@", "TR@", (1, 5, 10), "text retrieval, image to text",
        "share of images with one of their own captions among the k best-ranked captions",
        "image -> text: its best-ranked caption is one of its own",
    ),
    *_at_ranks(
        "ir@", "IR@", (1, 5, 10), "image retrieval, text to image",
        "share of captions whose own image is among the k best-ranked images",
        "text -> image: its own image ranks first",
    ),
    *_at_ranks(
        "top", "top-", (1, 5), "zero-shot classification",
        "share of images whose class is among the k best, ranked by the class names alone",
        "zero-shot: the right class of all",
    ),
    Metric(
        "average", "average", "the course's score, the mean of TR@1, IR@1 and top-1 (of those that there are)", "%", True,
        short="mean of the lines above, the course's score",
    ),
    Metric("alignment", "alignment", "mean squared distance of matched unit embeddings, 0 to 4: lower = pairs are closer", "1", False),
    Metric(
        "uniformity", "uniformity",
        "log of the mean of exp(-2 x squared distance) within a modality, 0 or less: lower = better spread out", "1", False,
    ),
    Metric(
        "modality_gap", "modality gap",
        "distance between the mean image and the mean caption, 0 to 2: 0 = the two clouds share their centre", "1",
    ),
    Metric(
        "modality_distance", "modality distance",
        "distance between the prototypes of all images and of all captions, in the run's own geometry", "distance",
    ),
    Metric("root_distance_image", "root distance image", "median distance of images to the root", "distance"),
    Metric("root_distance_image_q25", "root distance image, q25", "lower quartile of the distance of images to the root", "distance"),
    Metric("root_distance_image_q75", "root distance image, q75", "upper quartile of the distance of images to the root", "distance"),
    Metric("root_distance_text", "root distance text", "median distance of captions to the root", "distance"),
    Metric("root_distance_text_q25", "root distance text, q25", "lower quartile of the distance of captions to the root", "distance"),
    Metric("root_distance_text_q75", "root distance text, q75", "upper quartile of the distance of captions to the root", "distance"),
    Metric("root_gap", "root gap", "mean over pairs of the image's distance to the root minus the caption's", "distance"),
    Metric(
        "text_nearer_root", "text nearer root",
        "share of pairs whose caption is nearer to the root than its image; 0.5 = no order", "share", True,
    ),
    Metric(
        "generality_within", "generality, within",
        "rank correlation of distance to the root with specificity, within a scene's six captions", "correlation", True, 0.0,
    ),
    Metric("generality_pooled", "generality, pooled", "the same over the captions of all scenes together", "correlation", True, 0.0),
    Metric(
        "cone_captions", "captions in cone",
        "share of (generic, specific) captions of a scene with the specific one in the generic one's cone", "share", True,
        "cone_captions_chance",
    ),
    Metric(
        "cone_captions_chance", "captions in cone, chance",
        "the same with a caption that does not follow: what cones of this width hold anyway", "share",
    ),
    Metric(
        "cone_images", "images in cone", "share of (caption, its image) with the image in the caption's cone", "share", True,
        "cone_images_chance",
    ),
    Metric("cone_images_chance", "images in cone, chance", "the same with an image that does not fit", "share"),
    Metric("cone_saturated", "cone saturated", "share of captions whose cone is half the space, and holds any image", "share"),
    *(
        Metric(f"foil_{name}", f"foil {name}", f"true caption before one that is wrong in {what}", "%", True, 50.0)
        for name, what in _FOILS.items()
    ),
)  # fmt: skip

METRICS = {metric.key: metric for metric in _TABLE}

# Of probabilities (`clipedu.evaluation.calibration`); no part of metrics.json, since temperature scaling needs labels.
CALIBRATION = {
    metric.key: metric
    for metric in (
        Metric(
            "temperature", "temperature", "what similarities are divided by before the softmax over the classes", "1"
        ),
        Metric(
            "ece",
            "ECE",
            "expected calibration error: mean gap between accuracy and confidence, over 15 bins",
            "%",
            False,
        ),
        Metric("nll", "NLL", "mean negative log-likelihood of the right class", "nats", False),
        Metric("confidence", "confidence", "mean probability of the predicted class", "%"),
        Metric("accuracy", "accuracy", "share of pictures whose predicted class is right", "%", True),
    )
}

# Before the key of a score of averaged weights (`ema_decay`): "averaged/tr@1". The others are of the trained weights themselves.
AVERAGED_PREFIX = "averaged/"

# Sizes of the test sets, which give the level of chance.
COUNTS = ("retrieval_images", "retrieval_captions", "zeroshot_images", "zeroshot_classes")

# How much of the test sets a run was also trained on; only where it is any.
TRAINED = ("retrieval_trained_pairs", "retrieval_trained_images", "zeroshot_trained_images")

# Where an earlier checkpoint was scored than the last, which is damaged: after which step each was written.
EARLIER = ("scored_step", "last_step")

# Selections: keys, in the order of the table that shows them.
AVERAGED = ("tr@1", "ir@1", "top1")
BY_RANK = tuple(key for key in METRICS if METRICS[key].task)
FOIL_KEYS = tuple(key for key in METRICS if key.startswith("foil_"))
# What the page of a run says of the shape of its embedding space.
SPACE = tuple(
    key for key in METRICS if key not in (*BY_RANK, "average", "root_gap") and not key.endswith(("_q25", "_q75"))
)
# What a comparison over seeds shows.
COMPARED = (
    *AVERAGED, "average",
    "generality_within", "generality_pooled", "text_nearer_root",
    "cone_captions", "cone_captions_chance", "cone_images", "cone_images_chance",
    "modality_gap",
    "foil_place", "foil_relation", "foil_binding",
)  # fmt: skip

# Key -> heading of the scores that every table shows.
SCORES = {key: METRICS[key].heading for key in (*AVERAGED, "average")}

# Below a table of scores: what they mean.
LEGEND = (
    *(
        f"{re.sub('[0-9]+$', 'k', metric.heading)}{f' ({metric.task})' if metric.task else ''}: {metric.definition}."
        for metric in map(METRICS.__getitem__, SCORES)
    ),
    "chance: what a random ranking would score. A model near chance has learned nothing.",
    "s.e.: binomial standard error, how far another test set of this size would move the score (2 s.e.: 95 % of the time).",
)


def rank_of(key: str) -> tuple[str, int] | None:
    """Parse the key of a score by rank.

    Returns:
        kind ("tr", "ir" or "top") and k, for any k; None for other keys.
    """
    found = re.fullmatch(r"(tr|ir)@([0-9]+)|(top)([0-9]+)", key)
    return (found[1] or found[3], int(found[2] or found[4])) if found else None
