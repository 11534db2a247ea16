"""`Shards`: pairs from a folder of WebDataset tars, as public mirrors of CC3M, COCO and ImageNet have them.

What a tar holds is told in `clipedu.data.tars`, how a picture becomes square in `clipedu.data.images`.

Rows: the shards in the order of their names, in each the samples in the order of the tar. So a row's number means the same
pair wherever the same shards lie. A damaged sample is left out and named in `skipped`; the rows after it move up.

Splits: a shard belongs to a split if its name contains the split's word between non-letters: "cc3m-train-0000.tar" is train,
"flickr8k-val-000.tar" and "coco-validation-3.tar" are val, and so are "test" shards where no others are. Shards in a
subfolder of that name count too (`test/0.tar`). Where no name has such a word, every shard belongs to every split.

Labels: if the samples have a .cls, the set has `labels`. Their names are the lines of `classnames.txt` in the folder; without
it, ImageNet's if the name of the folder or of a shard says "imagenet". "zeroshot" is the val split of a set with labels.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from clipedu.data import cache, images
from clipedu.data.classnames import IMAGENET_CLASSES, PHOTO_TEMPLATES, imagenet_classes
from clipedu.data.pairs import Pairs
from clipedu.data.samples import SPLITS, decoded, shard_names, until, usable
from clipedu.data.tars import Sample
from clipedu.registry import ClipeduError, unknown_name

VERSION = 1  # of the cache: raise it when the same shards give other pixels or rows
_PATIENCE = 2.0  # seconds before a progress bar appears


class Shards(Pairs):
    """Real pairs. The images are decoded at the first use and then read from the cache folder (see `clipedu.data.cache`).

    Args:
        folder: holds the .tar shards.
        split: "train", "val" or "zeroshot".
        image_size: height and width of the images, in pixels, 1 to 1024.
        size: take the first `size` rows; None takes all.
        resize: "crop" or "squash", see `clipedu.data.images`.
    Attributes:
        keys: one a row: the name of its files in the shard.
    Raises:
        ClipeduError: no such folder, no shards, no usable pair, fewer pairs than `size`, no labels for "zeroshot", or a
            cache folder that can't be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        split: str = "train",
        *,
        image_size: int = 32,
        size: int | None = None,
        resize: str = "crop",
    ):
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        if resize not in images.RESIZE:
            raise unknown_name("resize", resize, images.RESIZE)
        if not 1 <= image_size <= 1024:
            raise ClipeduError(f"image_size={image_size} can't be used: give 1 to 1024 pixels")
        if size is not None and size < 1:
            raise ClipeduError(f"size={size} can't be used: give at least 1 pair, or None for all")
        self.folder = Path(folder).expanduser()
        self.name = self.folder.resolve().name
        self.split, self.image_size, self.resize = split, image_size, resize
        self._shards, unused = shard_names(self.folder, split)
        names = _class_names(self.folder, self._shards)

        self._pixels, rows = self._open(size, None if names is None else names[0])
        self.keys: list[str] = rows["keys"][:size]
        self._captions: list[list[str]] = rows["captions"][:size]
        seen = [line for row, line in rows["skipped"] if size is None or row < size]
        self.skipped = unused + seen
        if rows["labels"] is not None:
            self.labels = torch.tensor(rows["labels"][:size])
            self.class_names = None if names is None else names[1]()
            self.templates = PHOTO_TEMPLATES
        if split == "zeroshot":
            self._check_zeroshot()

    def __len__(self) -> int:
        return len(self.keys)

    def pixels(self, index: Tensor) -> Tensor:
        """Images of the rows `index` (int64 [B]) as uint8 [B, 3, H, W], on the CPU."""
        return torch.from_numpy(self._pixels[np.asarray(index)])

    def captions(self, row: int) -> list[str]:
        """All captions of one row as they were written; empty for a set that has only labels."""
        return self._captions[row]

    def fingerprint(self) -> str:
        """A short hash of keys, captions, labels, image size and resize; not of where and when the shards were stored."""
        labels = [None] * len(self) if self.labels is None else self.labels.tolist()
        digest = hashlib.sha256(f"{len(self)}/{self.image_size}/{self.resize}".encode())
        for row in zip(self.keys, self._captions, labels, strict=True):
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()[:16]

    def _check_zeroshot(self) -> None:
        if self.labels is None:
            raise ClipeduError(
                f"{self.folder} has no class labels (KEY.cls), so it can't be used with split='zeroshot'"
            )
        if self.class_names is None:
            raise ClipeduError(
                f"{self.folder} has no class names: add classnames.txt, one name a line in order of the index"
            )

    def _open(self, size: int | None, classes: int | None) -> tuple[np.ndarray, dict]:
        """Pixels and rows from the cache: of the whole set if they are there, else of the first `size` rows; or make them."""
        stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self._shards.values()]
        facts = [VERSION, stats, classes, self.image_size, self.resize]
        name = f"{self.name}-{self.image_size}px"
        entries = [cache.entry_folder(name, [*facts, None]), cache.entry_folder(name, [*facts, size])]
        for attempt in range(2):
            for entry in entries[: 1 if size is None else 2]:
                if (found := cache.load(entry)) is not None:
                    if size is not None and len(found[0]) < size:
                        raise self._too_few(size, f"only {len(found[0])}")
                    return found
            if attempt == 0:
                self._decode(entries[1], size, classes)
        raise ClipeduError(
            f"{entries[1]} was written but can't be read: delete it, or set CLIPEDU_CACHE to another folder"
        )

    def _decode(self, entry: Path, size: int | None, classes: int | None) -> None:
        """Read the shards, decode what they hold, and write the cache entry."""
        total = sum(path.stat().st_size for path in self._shards.values())
        with tqdm(
            desc=f"reading {self.name}",
            total=total,
            unit="B",
            unit_scale=True,
            delay=_PATIENCE,
            mininterval=0.5,
            leave=False,
        ) as bar:
            samples = usable(self._shards, classes, bar.update)
            first = list(samples if size is None else until(samples, size))
        good = sum(not sample.trouble for sample in first)
        if size is not None and 0 < good < size:
            raise self._too_few(size, f"at most {good}")

        rows: dict[str, list] = {"keys": [], "captions": [], "labels": [], "skipped": []}

        def kept() -> Iterator[np.ndarray]:
            parts = (decoded(part, self.image_size, self.resize) for part in (first, samples))
            for sample, pixels in itertools.chain.from_iterable(parts):
                if pixels is None:
                    rows["skipped"].append((len(rows["keys"]), _line(sample)))
                    continue
                rows["keys"].append(sample.key)
                rows["captions"].append(sample.captions or [])
                rows["labels"].append(sample.label)
                bar.update()
                yield pixels
                if len(rows["keys"]) == size:
                    return
            if not rows["keys"]:
                raise self._none_left([line for _, line in rows["skipped"]])
            if size is not None:
                raise self._too_few(size, f"only {len(rows['keys'])}")

        def table() -> dict:
            return rows | {"labels": None if None in rows["labels"] else rows["labels"]}

        bar = tqdm(
            desc=f"decoding {self.name}", total=size or good, unit="img", delay=_PATIENCE, mininterval=0.5, leave=False
        )
        with bar, images.quiet():
            cache.store(entry, self.image_size, kept(), table)

    def _too_few(self, size: int, there: str) -> ClipeduError:
        return ClipeduError(f"size={size} is more than there is: {self.name}/{self.split} has {there} pairs")

    def _none_left(self, skipped: list[str]) -> ClipeduError:
        why = (
            f"{len(skipped)} skipped, e.g. {skipped[0]}"
            if skipped
            else "its shards hold no KEY.jpg with KEY.txt or KEY.json"
        )
        return ClipeduError(f"{self.folder} has no usable pair ({why}): check the shards or fetch them again")


def _line(sample: Sample) -> str:
    text = ": ".join(part for part in (sample.shard, sample.key, sample.trouble) if part)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _class_names(folder: Path, shards: Iterable[str]) -> tuple[int, Callable[[], list[str]]] | None:
    """How many classes there are, and a function that names them; None if the folder doesn't say."""
    file = folder / "classnames.txt"
    if file.is_file():
        names = file.read_text(encoding="utf-8", errors="replace").splitlines()
        names = [name.strip() for name in names if name.strip()]
        return len(names), lambda: names
    if any("imagenet" in name.lower() for name in (folder.resolve().name, *shards)):
        return IMAGENET_CLASSES, imagenet_classes
    return None
