"""The words for splits, in the names of shards and in tables of captions.

One table for both, so that a row that says "validation" and a shard called `coco-validation-3.tar` are of the same split.
"restval" is what the Karpathy split of COCO calls the part of val2014 that is for training.
"""

from __future__ import annotations

import re

SPLIT_WORDS = {
    "train": ("train", "training", "restval"),
    "val": ("val", "validation", "valid", "dev"),
    "test": ("test", "testing"),
}
ALL_WORDS = tuple(word for words in SPLIT_WORDS.values() for word in words)


def splits_in(text: str) -> set[str]:
    """Return the splits that a name or a cell of a table names.

    A word counts between characters that are no letters, in any case.

    >>> splits_in("coco-Validation-3.tar"), splits_in("train2014"), splits_in("trainer.tar")
    ({'val'}, {'train'}, set())
    """
    found = set(re.split("[^a-z]+", text.lower()))
    return {split for split, words in SPLIT_WORDS.items() if not found.isdisjoint(words)}
