"""Scenes: captioned images, drawn on demand without a download.

One or two objects (10 shapes x 10 colours x 3 sizes) stand somewhere on one of five backgrounds, under some noise. A scene
is a pure function of (seed, split, row): each attribute comes from a hash of these and of its own name, not from a
generator that others have drawn from. So scene 17 is the same in a set of 100 and in one of 100,000, and in any batch.
Three splits:

- train: row = number of the scene. Five captions a row, from generic to specific, most of them specific.
- val: the first scenes of their stream of which no two fit one most specific description; five paraphrases of it a row.
  So each caption is true of exactly one image, and retrieval has one right answer.
- zeroshot: one object a scene; the class is shape x colour (100 classes, equally often), size, place, background and noise
  vary.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from clipedu.data.pairs import Pairs
from clipedu.data.scenes import captions as language
from clipedu.data.scenes.captions import Dice, Meaning, meanings
from clipedu.data.scenes.drawing import COLOURS, SHAPES, draw
from clipedu.data.scenes.foils import false_claim, say_alike
from clipedu.data.scenes.sampling import MAX_VAL, SPLITS, VERSION, SceneHash, distinct_rows, sample
from clipedu.utils.errors import ClipeduError, unknown_name

CAPTIONS = 5  # a row
TRAIN_LEVELS = ((5,), (5,), (5, 4), (4, 3), (0, 1, 2, 2, 3, 3))  # of a chain, from which each of them is picked
CACHE_BYTES = 2**30
CACHED_ROWS = 2**15  # whose captions are kept once said, of a set of at most as many: about 25 MB
SKETCHED = 32  # scenes whose sketch is in the identity


class Scenes(Pairs):
    """Drawn scenes as `Pairs`.

    The same arguments give the same set; between machines a pixel may differ by one level, by rounding.

    Args:
        split: "train", "val" or "zeroshot".
        size: how many rows; None takes 16,000 for train and 1,000 for the others. A smaller set is the beginning of a
            larger one.
        image_size: 32 to 224.
        seed: another seed gives other scenes.

    Raises:
        ClipeduError: for an unknown split, or a size or image size that is out of range.
    """

    name = "scenes"
    templates = ("a {}", "a picture of a {}", "there is a {}", "a {} in a picture", "this picture shows a {}")

    def __init__(self, split: str = "train", size: int | None = None, image_size: int = 32, seed: int = 0):
        if split not in SPLITS:
            raise unknown_name("split of scenes", split, SPLITS)
        size = SPLITS[split] if size is None else size
        if size < 1:
            raise ClipeduError(f"scenes need a size of at least 1, not {size}")
        if split == "val" and size > MAX_VAL:
            raise ClipeduError(f"scenes have at most {MAX_VAL} distinct validation images, not {size}")
        if not 32 <= image_size <= 224:
            raise ClipeduError(f"scenes are drawn at an image size of 32 to 224 pixels, not {image_size}")
        self.split, self.image_size, self.seed = split, image_size, seed
        self.rows = distinct_rows(seed, split, size) if split == "val" else torch.arange(size)
        self.attributes = sample(seed, split, self.rows)
        words = SceneHash(seed, split, self.rows)
        self._dice = torch.stack([words.bits(f"words {k}") for k in range(CAPTIONS)], 1).tolist()
        self._meanings = meanings(self.attributes)
        self._cache: Tensor | None = None
        self._said: dict[int, list[str]] = {}
        self._digests: np.ndarray | None = None
        if split == "zeroshot":
            self.labels = self.attributes.shape[:, 0] * len(COLOURS) + self.attributes.colour[:, 0]
            self.class_names = [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, index: Tensor) -> Tensor:
        """Return the images of the rows `index` (int64 [B]).

        They are uint8 [B, 3, H, W]. All are drawn at first use if 1 GiB holds them.
        """
        if self._cache is None and len(self) * 3 * self.image_size**2 <= CACHE_BYTES:
            self._cache = draw(self.attributes, self.image_size)
        return draw(self.attributes[index], self.image_size) if self._cache is None else self._cache[index]

    def captions(self, row: int) -> list[str]:
        """Return five captions of a train or val row.

        A zeroshot row has none, but a label.
        """
        row = operator.index(row)  # of a tensor too: as a key it would be another one each time
        said = self._said.get(row) or [caption for _, caption in self.claims(row)]
        if len(self) <= CACHED_ROWS:
            self._said[row] = said
        return list(said)

    def claims(self, row: int) -> list[tuple[Meaning, str]]:
        """Return the captions of one row, each with what it claims."""
        if self.split == "zeroshot":
            return []
        drawn = (self._claim(row, k) for k in range(CAPTIONS))
        return [(shown, language.say(shown, dice, form)) for _, shown, dice, form in drawn]

    def _claim(self, row: int, k: int) -> tuple[Meaning, Meaning, Dice, int | None]:
        """Return all that is true of a scene, what caption k says of it, and the dice and form to say it with."""
        dice, whole, form = Dice(self._dice[row][k]), self._meanings[row], None
        if self.split == "val":
            form = self._dice[row][0] % 1009 + k  # five sentences that differ
            inverted = k % 2 == 1
        else:
            inverted = dice.pick((False, True))
        if whole.relation is not None and inverted:
            whole = whole.inverted()
        shown = whole.at_level(dice.pick(TRAIN_LEVELS[k]), dice) if self.split == "train" else whole
        return whole, shown, dice, form

    def foil(self, row: int, choice: int, kinds: Sequence[str], number: int) -> str | None:
        """Return one caption of a train or val row, made false in one thing.

        Arguments and result are those of `Pairs.foil`; `kinds` are keys of `clipedu.data.scenes.foils.FOILS`.
        """
        if self.split == "zeroshot":
            return None
        whole, shown, dice, form = self._claim(row, choice % CAPTIONS)
        claim = false_claim(shown, whole, kinds, Dice(number))
        return None if claim is None else say_alike(claim, shown, dice.number, form)

    def chain(self, row: int) -> list[str]:
        """Return six captions from generic to specific.

        Each is true of some of the scenes that the one before it is true of.
        """
        return [language.say(meaning, Dice(0)) for meaning in self.chain_meanings(row)]

    def chain_meanings(self, row: int) -> list[Meaning]:
        """Return what each caption of `chain(row)` claims."""
        number = self._dice[row][0]
        return [self._meanings[row].at_level(level, Dice(number)) for level in range(language.LEVELS)]

    def picture_digests(self) -> np.ndarray:
        """Hash the drawn pixels of each row, once: uint8 [N, 16]."""
        if self._digests is None:
            self._digests = self._hash_pictures()
        return self._digests

    def identity(self) -> dict[str, Any]:
        """Say what the set consists of, by content, as of all `Pairs`.

        "sketch" has some scenes, evenly spread, as means over a grid of 4 x 4: by it the same scenes are known again on a
        machine that rounds otherwise, where the hash of the pictures may differ.
        """
        some = torch.linspace(0, len(self) - 1, min(SKETCHED, len(self))).round().long()
        sketch = adaptive_avg_pool2d(self.pixels(some).float(), 4).round().to(torch.uint8)
        return {**super().identity(), "sketch": sketch.numpy().tobytes().hex()}

    def fingerprint(self) -> str:
        what = f"{self.name}/{self.split}/{len(self)}/{self.image_size}/{self.seed}/version {VERSION}"
        return hashlib.sha256(what.encode()).hexdigest()[:16]
