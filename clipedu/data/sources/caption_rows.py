"""What a file of captions gives: rows, and those that were left out.

A text is taken whole, or its row is left out and named with the reason; never cut or joined to another row's without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from clipedu.data.cleaning import is_blank
from clipedu.data.shards.splits import ALL_WORDS, splits_in
from clipedu.utils.errors import shorten

_NUMBERED = re.compile(r"#\d+$")  # Flickr's "name.jpg#0" is the first caption of name.jpg


@dataclass(frozen=True)
class CaptionRow:
    """One usable row: an image's name and its captions.

    Attributes:
        number: of the row in its file, from 1.
        where: the row in words, e.g. "row 3".
        image: name of the picture as written.
        captions: one or more, none of them blank.
        split: "train", "val" or "test".
    """

    number: int
    where: str
    image: str
    captions: tuple[str, ...]
    split: str


@dataclass(frozen=True)
class LeftOut:
    """One row that is not used: where it is, what it names, and why not.

    `kind` is the same for all rows with the same fault, `why` says more of this one.
    """

    number: int
    where: str
    image: str
    kind: str
    why: str = ""

    def __str__(self) -> str:
        image = f"{shorten(self.image)}: " if self.image else ""
        return f"{self.where}: {image}{self.why or self.kind}"


@dataclass
class CaptionTable:
    """The rows of a file of captions, those left out, and remarks."""

    rows: list[CaptionRow] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(
        self, number: int, image: str, captions: Iterable[str], split: str | None = None, *, unit: str = "row"
    ) -> None:
        """Add a row if it can be used, else leave it out with the reason.

        Args:
            number: of the row in its file, from 1.
            image: name of the picture.
            captions: its texts; blank ones are no captions.
            split: a word for it in any case ("Validation", "train2014"); None if the file has none: all is train.
            unit: what `number` counts.
        """
        image = _NUMBERED.sub("", image.strip())
        texts = tuple(text for caption in captions if not is_blank(text := caption.strip()))
        found = {"train"} if split is None else splits_in(split)
        if fault := _fault(image, texts):
            self.drop(number, image, fault, unit=unit)
        elif len(found) != 1:
            what = "names two splits" if found else "unknown split" if split and split.strip() else "no split"
            given = f" {shorten(split.strip(), 30)!r}" if split and split.strip() else ""
            self.drop(number, image, what, f"{what}{given}. Allowed: {', '.join(ALL_WORDS)}", unit=unit)
        else:
            self.rows.append(CaptionRow(number, f"{unit} {number}", image, texts, found.pop()))

    def drop(self, number: int, image: str, kind: str, why: str = "", *, unit: str = "row") -> None:
        """Leave a row out.

        Args:
            number: of the row in its file, from 1.
            image: what it names, "" if nothing.
            kind: the fault, in the same words for all such rows.
            why: the fault of this row, if more can be said.
            unit: what `number` counts.
        """
        self.left_out.append(LeftOut(number, f"{unit} {number}", image, kind, why))


def _fault(image: str, texts: tuple[str, ...]) -> str:
    if not image:
        return "no image name"
    if not texts:
        return "empty caption"
    both = "".join((image, *texts))
    if "\0" in both:
        return "holds a NUL character"
    try:
        both.encode()
    except UnicodeError:  # JSON can spell half a surrogate pair, which is no text
        return "holds half a surrogate pair"
    return ""
