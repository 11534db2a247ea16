"""Labelled pictures to train a probe on, other than the scored ones.

Which sets have them: scenes, of which there are as many as one asks for, and shards with a split "train" whose samples have labels
(KEY.cls). The training pairs of a run have captions and, as a rule, no labels.
"""

from __future__ import annotations

import logging

import torch

from clipedu.data.load import load_pairs
from clipedu.data.pairs import Pairs
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.shards.dataset import Shards
from clipedu.data.shards.samples import MissingSplit
from clipedu.data.subset import Subset
from clipedu.utils.errors import ClipeduError

SCENES_A_CLASS = 40  # labelled scenes to train on

log = logging.getLogger("clipedu")


def labelled_training(scored: Pairs, data: str | None = None, *, scenes_a_class: int | None = None) -> Pairs:
    """Open labelled pictures to train probes of a zero-shot set on.

    Of scenes they are those that follow the scored ones in their stream. Of shards they are the split
    "train"; a picture that is in the scored set too is left out, and a log line says how many are.

    Args:
        scored: a labelled set, as `load_pairs(..., "zeroshot")` opens it.
        data: name or folder of another set with the same classes, whose split "train" is taken; None is the scored set's own.
        scenes_a_class: how many scenes, of each of 100 classes; None is `SCENES_A_CLASS`.
    Returns:
        a set with labels of the same classes.
    Raises:
        ClipeduError: there are no labelled pictures, or they are of other classes.
    """
    if scored.labels is None or scored.class_names is None:
        raise ClipeduError(f"{scored.name}/{scored.split} has no labelled classes: probes need a zero-shot set")
    if data in (None, "scenes") and isinstance(scored, Scenes):
        return _further_scenes(scored, SCENES_A_CLASS if scenes_a_class is None else scenes_a_class)
    if data is None and not isinstance(scored, Shards):
        raise ClipeduError(
            f"{scored.name}/{scored.split} has no labelled part to train on: give one with --probe-data NAME"
        )
    train = _train_split(scored, data)
    if train.labels is None:
        raise ClipeduError(
            f"{train.name}/{train.split} has no labels (KEY.cls), so no probe can be trained on it: give a labelled set with "
            "--probe-data NAME"
        )
    _check_classes(scored, train)
    return _without(train, scored)


def _further_scenes(scored: Scenes, a_class: int) -> Pairs:
    if a_class < 1:
        raise ClipeduError(f"scenes_a_class must be at least 1, got {a_class}")
    more = a_class * len(scored.class_names or ())
    stream = Scenes("zeroshot", len(scored) + more, scored.image_size, scored.seed)
    return Subset(stream, torch.arange(len(scored), len(stream)), "labelled")


def _train_split(scored: Pairs, data: str | None) -> Pairs:
    source = data if data is not None else getattr(scored, "folder", scored.name)
    resize = getattr(scored, "resize", "crop")
    try:
        return load_pairs(source, "train", image_size=scored.image_size, resize=resize)
    except MissingSplit as error:
        raise ClipeduError(
            f"no labelled pictures to train probes on: {error}. Give a set that has them with --probe-data NAME, or use "
            "--zeroshot-data scenes"
        ) from None


def _check_classes(scored: Pairs, train: Pairs) -> None:
    """Check that labels mean the same classes in both sets."""
    assert scored.class_names is not None and train.labels is not None
    most = len(scored.class_names)
    low, high = int(train.labels.min()), int(train.labels.max())
    if low < 0 or high >= most:
        raise ClipeduError(
            f"{train.name}/{train.split} has labels from {low} to {high}, and {scored.name}/{scored.split} has {most} classes: "
            "give a set of the same classes with --probe-data NAME"
        )
    of_imagenet = {"clipedu", "open_clip"} & {train.named_by, scored.named_by}
    if train.class_names is None or (of_imagenet and train.named_by != scored.named_by):
        return  # the same classes may have names of another source
    for index, (one, other) in enumerate(zip(train.class_names, scored.class_names, strict=False)):
        if one.casefold() != other.casefold():
            raise ClipeduError(
                f"class {index} is {one!r} in {train.name}/{train.split} and {other!r} in {scored.name}/{scored.split}: give a "
                "set of the same classes with --probe-data NAME"
            )


def _without(train: Pairs, scored: Pairs) -> Pairs:
    """Leave out the pictures that are scored."""
    known = {digest.tobytes() for digest in scored.picture_digests()}
    new = torch.tensor([digest.tobytes() not in known for digest in train.picture_digests()])
    if not new.any():
        raise ClipeduError(
            f"all {len(train):,} pictures of {train.name}/{train.split} are also in {scored.name}/{scored.split}, so that probes "
            "would be trained on what they are scored on: give others with --probe-data NAME"
        )
    if new.all():
        return train
    log.warning(
        f"{int((~new).sum()):,} of {len(train):,} pictures of {train.name}/{train.split} are also in "
        f"{scored.name}/{scored.split}: no probe is trained on them"
    )
    return Subset(train, new.nonzero()[:, 0], train.split)
