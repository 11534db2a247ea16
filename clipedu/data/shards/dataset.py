"""`Shards`: pairs from a folder of WebDataset tars.

Rows: the shards in the order of their names, in each the samples in the order of the tar (`tar_reader` says what a sample
is). So equal shards give equal rows. A damaged sample is left out and named in `skipped`; the rows after it move up.

Splits: a shard belongs to a split if its name contains the split's word between non-letters: "cc3m-train-0000.tar" is train,
"flickr8k-val-000.tar" and "coco-validation-3.tar" are val, and so are "test" shards where no others are. Shards in a
subfolder of that name count too (`test/0.tar`). Where no name has such a word, every shard belongs to every split.

Labels: if the samples have a .cls, the set has `labels`. Their names are the lines of `classnames.txt` in the folder; without
it, ImageNet's if the name of the folder or of a shard says "imagenet". "zeroshot" is the val split of a set with labels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os

import numpy as np
import torch
from torch import Tensor

from clipedu.data.class_names import PHOTO_TEMPLATES
from clipedu.data.pairs import Pairs
from clipedu.data.prompts import NAMED_BY
from clipedu.data.shards.decoding import find_source, open_source
from clipedu.data.shards.left_out import summary
from clipedu.utils.errors import ClipeduError

log = logging.getLogger("clipedu")


class Shards(Pairs):
    """Pairs from shards, decoded at the first use and then cached.

    See `clipedu.data.shards.pixel_cache`.

    Args:
        folder: holds the .tar shards.
        split: "train", "val" or "zeroshot".
        image_size: height and width of the images, in pixels, 1 to 1024.
        size: take the first `size` rows; None takes all.
        resize: "crop" or "squash", see `clipedu.data.shards.images`.
        workers: processes that decode, the first time; None takes all cores where that is faster.
        progress: show bars meanwhile.
    Attributes:
        shards: the .tar files of the split.
        keys: one a row: the name of its files in the shard.
        dropped: what was left out, (shard and key, why); `skipped` and `left_out` have the same as lines.
        cache: the folder of the decoded images and tokens.
    Raises:
        ClipeduError: no such folder, no shards, no usable pair, fewer pairs than `size`, no labels for "zeroshot", or a
            cache folder that cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        split: str = "train",
        *,
        image_size: int = 32,
        size: int | None = None,
        resize: str = "crop",
        workers: int | None = None,
        progress: bool = True,
    ):
        source = find_source(folder, split, image_size, resize)
        if size is not None and size < 1:
            raise ClipeduError(f"size={size} cannot be used: give at least 1 pair, or None for all")
        self.folder, self.name = source.folder, source.name
        self.shards = tuple(path.resolve() for path in source.shards.values())
        self.split, self.image_size, self.resize = split, image_size, resize

        self.cache, self._pixels, rows = open_source(source, size, workers, progress)
        self.keys: list[str] = rows["keys"][:size]
        self._captions: list[list[str]] = rows["captions"][:size]
        self.dropped = [(where, why) for row, where, why in rows["skipped"] if size is None or row < size]
        self.left_out = source.unused + summary(self.dropped)
        self.skipped = source.unused + [f"{where}: {why}" for where, why in self.dropped]
        if rows["labels"] is not None:
            self.labels = torch.tensor(rows["labels"][:size])
            if source.names is not None:
                self.class_names = source.names[1]()
                self.named_by = "classnames.txt" if (self.folder / "classnames.txt").is_file() else "clipedu"
                self._tell_classes(self.labels)
            self.templates = PHOTO_TEMPLATES
        if split == "zeroshot":
            self._check_zeroshot()

    def __len__(self) -> int:
        return len(self.keys)

    def pixels(self, index: Tensor) -> Tensor:
        """Read images of rows (int64 [B]): uint8 [B, 3, H, W], on the CPU."""
        return torch.from_numpy(self._pixels[np.asarray(index)])

    def picture_digests(self) -> np.ndarray:
        """Return the digests of the decoded pixels of each row: uint8 [N, 16].

        They were computed when the pictures were decoded.
        """
        return self._pixels.digests(np.arange(len(self)))

    def captions(self, row: int) -> list[str]:
        """Return a row's captions as written; empty if it has only a label."""
        return self._captions[row]

    def fingerprint(self) -> str:
        """Return a short hash of what the pairs are called.

        It covers keys, captions, labels, image size and resize; not paths and dates, and not the pictures: these are in
        the `identity`.
        """
        labels = [None] * len(self) if self.labels is None else self.labels.tolist()
        digest = hashlib.sha256(f"{len(self)}/{self.image_size}/{self.resize}".encode())
        for row in zip(self.keys, self._captions, labels, strict=True):
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()[:16]

    def _tell_classes(self, labels: Tensor) -> None:
        there, every = len(labels.unique()), len(self.class_names or ())
        if there < every:
            whose = NAMED_BY[self.named_by]
            hint = "; if its labels mean others, name them in classnames.txt" * (self.named_by == "clipedu")
            log.info(
                f"{self.name}/{self.split}: its labels are {there:,} of {every:,} classes ({int(labels.min())} to "
                f"{int(labels.max())}; {whose}{hint})"
            )

    def _check_zeroshot(self) -> None:
        if self.labels is None:
            raise ClipeduError(
                f"{self.folder} has no class labels (KEY.cls), so it cannot be used with split='zeroshot'"
            )
        if self.class_names is None:
            raise ClipeduError(
                f"{self.folder} has no class names: add classnames.txt, one name a line in order of the index"
            )
