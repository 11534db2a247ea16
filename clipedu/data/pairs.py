"""`Pairs`: the interface of every data set.

A row is one image with one or more captions. Its number, 0 <= row < len(pairs), is its id: it is the same in every epoch
and in every process, and it is what a loss with memory (SogCLR) keeps its state under. A subclass says how to get
`pixels` and `captions`; the base class turns captions into tokens once, and returns them by row.

Shapes: B rows in a batch, L tokens a caption, H = W = `image_size`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clipedu.data.identity import content_digest, digest_captions, digest_rows, summary
from clipedu.data.token_cache import encode_cached
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    from clipedu.data.tokenizer import Tokenizer

CHUNK_BYTES = 64 << 20  # of pixels, hashed at once
log = logging.getLogger("clipedu")


@dataclass(frozen=True)
class Tokenized:
    """All T captions of N rows as numbers.

    Attributes:
        tokenizer: the one that made them.
        ids: int32 [T, L].
        lengths: tokens in each caption, [CLS] and [SEP] included, [T].
        first: the first caption of each row, [N + 1].
        digests: of the captions of each row, uint8 [N, 16].
        cut: how many captions were longer than L tokens, and were cut.
    """

    tokenizer: Tokenizer
    ids: np.ndarray
    lengths: np.ndarray
    first: np.ndarray
    digests: np.ndarray
    cut: int


class Pairs:
    """Images with captions.

    Subclasses set the attributes below and implement `__len__`, `pixels` and `captions`.

    Attributes:
        name: what to call the set in a report, e.g. "scenes".
        split: "train", "val" or "zeroshot".
        image_size: height and width of the images, in pixels.
        labels: int64 [N] class of each image, or None.
        class_names: one name a class (index = label), or None.
        named_by: where the class names are from, a key of `clipedu.data.prompts.NAMED_BY`.
        templates: prompt templates with one "{}" each, for zero-shot classification.
        skipped: one line for each sample that was left out, and why.
        left_out: the same summed up: one line for each reason, with examples.
        cache: the folder of what was made from the set and kept on disk, or None.
    """

    name: str = ""
    split: str = "train"
    image_size: int = 0
    labels: Tensor | None = None
    class_names: Sequence[str] | None = None
    named_by: str = ""
    templates: Sequence[str] = ("a photo of a {}.",)
    skipped: Sequence[str] = ()
    left_out: Sequence[str] = ()

    cache: Path | None = None  # a folder in which tokens can be kept for the next time
    _tokenized: Tokenized | None = None
    _own_tokenizer: Tokenizer | None = None  # a copy, for foils
    _remembered: list[np.ndarray] | None = None  # digests of pictures, inside `hashed_once`

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} does not say how many rows it has")

    def pixels(self, index: Tensor) -> Tensor:
        """Return the images of the rows `index`, int64 [B].

        They are uint8 [B, 3, H, W], on the CPU.
        """
        raise TypeError(f"{type(self).__name__} has no pixels")

    def captions(self, row: int) -> list[str]:
        """Return all captions of one row; empty for a set that has only labels."""
        raise TypeError(f"{type(self).__name__} has no captions")

    def foil(self, row: int, choice: int, kinds: Sequence[str], number: int) -> str | None:
        """Return one caption of a row, made false in one thing.

        Only scenes have foils, since only of them it is known what makes a caption false.

        Args:
            row: of the set.
            choice: which caption, as that of `tokens`.
            kinds: in what it may be false; one of those that the caption claims is drawn.
            number: not negative, to draw with: the same gives the same foil.
        Returns:
            None where the caption claims nothing of these kinds.
        """
        return None

    def fingerprint(self) -> str:
        """Return a short hash of name, size and captions.

        Scores of two runs are comparable only if it is equal, and the `identity`, which covers the pictures, too.
        """
        digest = hashlib.sha256(f"{self.name}/{self.split}/{len(self)}/{self.image_size}".encode())
        for row in range(len(self)):
            digest.update("\n".join(self.captions(row)).encode())
        return digest.hexdigest()[:16]

    def picture_digests(self) -> np.ndarray:
        """Hash the decoded pixels of each row: uint8 [N, 16].

        Here every picture is read and hashed, each time (a second a gigabyte, and what `pixels` takes): so it is right for
        a set whose pictures change. Inside `hashed_once` it is done once. A set that knows its digests returns them.
        """
        if self._remembered is None:
            return self._hash_pictures()
        if not self._remembered:
            self._remembered.append(self._hash_pictures())
        return self._remembered[0]

    def _hash_pictures(self) -> np.ndarray:
        rows = max(1, CHUNK_BYTES // (3 * (self.image_size or 224) ** 2))
        parts = [digest_rows(map(_bytes, self.pixels(index))) for index in torch.arange(len(self)).split(rows)]
        return np.concatenate(parts) if parts else digest_rows([])

    def caption_digests(self) -> np.ndarray:
        """Hash the captions of each row, those that were tokenized: uint8 [N, 16]."""
        if self._tokenized is not None:
            return self._tokenized.digests
        return digest_captions(self.captions(row) for row in range(len(self)))

    def identity(self) -> dict[str, Any]:
        """Say what the set consists of, by content.

        `clipedu.data.identity.changes` compares two of them. Whatever is made of a set and kept belongs to this identity:
        another one has other pictures, captions or classes. It costs what `picture_digests` costs.

        Returns:
            "rows" and "image_size"; "pictures" and "captions", a hash each of all rows in order; for a set with labels also
            "classes", a hash of labels, their names and the templates. JSON can hold it.
        """
        found: dict[str, Any] = {
            "rows": len(self),
            "image_size": self.image_size,
            "pictures": summary(self.picture_digests()),
            "captions": summary(self.caption_digests()),
        }
        if self.labels is not None:
            facts = [self.labels.tolist(), list(self.class_names or []), list(self.templates)]
            found["classes"] = content_digest(json.dumps(facts).encode()).hex()
        return found

    def tokenize(self, tokenizer: Tokenizer) -> Pairs:
        """Encode all captions once, so that `tokens` can return them.

        A set that has a `cache` keeps them there (see `clipedu.data.token_cache`). If captions are cut, a log line says how
        many.

        Raises:
            ClipeduError: a row has no caption.
        """
        if self._tokenized is not None and self._tokenized.tokenizer is tokenizer:
            return self
        texts: list[str] = []
        first = [0]
        rows = [self.captions(row) for row in range(len(self))]
        for row, captions in enumerate(rows):
            if not captions:
                what = f"no caption for row {row}" if texts else "no captions"
                raise ClipeduError(f"{self.name}/{self.split} has {what}: it cannot be used to train or for retrieval")
            texts += captions
            first.append(len(texts))
        ids, lengths = tokenizer.encode(texts) if self.cache is None else encode_cached(self.cache, tokenizer, texts)
        cut, every = getattr(tokenizer, "truncated", 0), len(texts)  # a tokenizer of one's own may not count
        self._own_tokenizer = None
        self._tokenized = Tokenized(tokenizer, ids, lengths, np.asarray(first), digest_captions(rows), cut)
        if cut:
            share = "less than 1" if 100 * cut < every else f"{100 * cut / every:.0f}"
            log.warning(
                f"text_length={tokenizer.length} cuts {cut:,} of {every:,} captions ({share} %) of {self.name}/{self.split}"
            )
        return self

    @property
    def captions_cut(self) -> int | None:
        """How many captions were cut; None before they are tokenized."""
        return None if self._tokenized is None else self._tokenized.cut

    def tokens(self, index: Tensor, choice: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return one caption for each row of `index`.

        Args:
            index: int64 [B] rows.
            choice: int64 [B], any non-negative numbers: row r gets its caption number `choice[r] % number of captions`.
                None takes the first.
        Returns:
            token ids, int64 [B, L], and mask, bool [B, L], True where there is a token. L is the longest in the batch.
        Raises:
            ClipeduError: the set is not tokenized yet.
        """
        tokenized, rows = self._need_tokens(), np.asarray(index)
        first, count = tokenized.first[rows], tokenized.first[rows + 1] - tokenized.first[rows]
        return _gather(tokenized, first if choice is None else first + np.asarray(choice) % count)

    def all_tokens(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return every caption of every row.

        Returns:
            ids int64 [T, L], mask bool [T, L], and the row that each belongs to, int64 [T].

        Raises:
            ClipeduError: the set is not tokenized yet.
        """
        tokenized = self._need_tokens()
        ids, mask = _gather(tokenized, np.arange(len(tokenized.ids)))
        return ids, mask, torch.from_numpy(np.repeat(np.arange(len(self)), np.diff(tokenized.first)))

    def foil_tokens(
        self, index: Tensor, choice: Tensor, kinds: Sequence[str], numbers: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return one caption for each row of `index`, and its foil beside it.

        A caption without a foil has itself in its place.

        Args:
            index, choice: as those of `tokens`.
            kinds: as those of `foil`.
            numbers: int64 [B], as the `number` of `foil`.
        Returns:
            token ids, int64 [B, 2, L], and mask, bool [B, 2, L]: the caption first.
        Raises:
            ClipeduError: the set is not tokenized yet.
        """
        tokenized, rows = self._need_tokens(), np.asarray(index)
        first, count = tokenized.first[rows], tokenized.first[rows + 1] - tokenized.first[rows]
        which = first + np.asarray(choice) % count
        ids, lengths = (np.stack([of[which]] * 2, 1) for of in (tokenized.ids, tokenized.lengths))
        asked = zip(index.tolist(), choice.tolist(), numbers.tolist(), strict=True)
        made = [self.foil(row, shown, kinds, number) for row, shown, number in asked]
        if told := {place: foil for place, foil in enumerate(made) if foil is not None}:
            if self._own_tokenizer is None:  # batches may be made in a thread, and a tokenizer works for one at a time
                self._own_tokenizer = copy.deepcopy(tokenized.tokenizer)
            ids[list(told), 1], lengths[list(told), 1] = self._own_tokenizer.encode(list(told.values()))
        return _cut(ids, lengths)

    def _need_tokens(self) -> Tokenized:
        if self._tokenized is None:
            raise ClipeduError(f"{self.name}/{self.split} is not tokenized yet: call pairs.tokenize(tokenizer) first")
        return self._tokenized


@contextmanager
def hashed_once(*sets: Pairs) -> Iterator[None]:
    """Hash the pictures of sets once at most.

    Nothing may change them inside the block.

    Args:
        sets: what is trained and scored on there.
    """
    entered = [pairs for pairs in sets if pairs._remembered is None]
    for pairs in entered:
        pairs._remembered = []
    try:
        yield
    finally:
        for pairs in entered:
            pairs._remembered = None


def _bytes(picture: Tensor) -> bytes:
    return picture.cpu().numpy().tobytes()


def _gather(tokenized: Tokenized, which: np.ndarray) -> tuple[Tensor, Tensor]:
    return _cut(tokenized.ids[which], tokenized.lengths[which])


def _cut(ids: np.ndarray, lengths: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return ids and mask of captions [..., L], cut to the longest of them."""
    longest = int(lengths.max())
    read = torch.from_numpy(ids[..., :longest].astype(np.int64))
    return read, torch.arange(longest) < torch.from_numpy(lengths)[..., None]
