"""Find the columns of images, captions and splits, and lists in cells.

The same names serve for the keys of JSON records. Case, spaces, dots and hyphens do not matter, and captions may be in several
columns: `caption,caption`, `caption_1,caption_2`, `Caption 1`, `captions`.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

IMAGE_NAMES = (
    "image", "filepath", "file_name", "filename", "file", "path", "image_name", "image_path", "file_path", "image_file",
    "image_filename", "img", "img_path",
)  # fmt: skip
CAPTION_NAMES = ("caption", "title", "text", "comment", "sentence", "description", "raw")  # also with s, also numbered

_IMAGE_END = re.compile(r"\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|heic)(#\d+)?$", re.IGNORECASE)
_TEXT = r"""[rRuU]?(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")"""  # a string as Python writes it
_ITEM = rf"(?:(?:np|numpy)\.str_\(\s*{_TEXT}\s*\)|{_TEXT})"  # as a list of NumPy's texts is written
_LIST = re.compile(rf"\[\s*(?:{_ITEM}(?:(?:\s*,\s*|\s+){_ITEM})*\s*,?\s*)?\]")  # NumPy puts spaces instead of commas
_MADE = re.compile(
    r"[A-Za-z_][\w.]*\(\s*(\[.*\])\s*(?:,\s*dtype=[^()\[\]]+)?\)", re.DOTALL
)  # array(['a'], dtype=object)
_BROKEN = re.compile(  # a list of texts or of objects, broken or of another form; or a list's end, wherever it is
    r"""\s*"?(?:[A-Za-z_][\w.]*\(\s*)?[\[{](?:[A-Za-z_][\w.]*\(|[\[{\s])*["']|.*["']\s*\]"?\s*$""", re.DOTALL
)
_BRACKET = re.compile(r"""[\s"]*[\[{]|.*[\]}][\s"]*$""", re.DOTALL)
_TUPLE = re.compile(rf"\(\s*{_TEXT}\s*,(?:\s*{_TEXT}\s*,)*(?:\s*{_TEXT}\s*)?\)")


class NoTexts(ValueError):
    """A cell is structured, but no list of texts."""


@dataclass(frozen=True)
class Columns:
    """The positions of the columns that are read.

    Attributes:
        image, split: one position each; None without a split.
        captions: one position or more.
        plural: those of `captions` whose names say that they hold several.
        unread: the names of the other columns.
        repeated: a name that two columns have which only one may have; else "".
    """

    image: int
    captions: tuple[int, ...]
    split: int | None
    plural: frozenset[int]
    unread: tuple[str, ...]
    repeated: str


def find_columns(names: Sequence[str]) -> Columns | None:
    """Find the columns by their names; None without image or caption.

    >>> find_columns(["File Name", "Caption 1", "Caption 2", "width"]).captions
    (1, 2)
    """
    plain = [re.sub(r"[\s.\-_]+", "_", name.strip().strip("\"'").strip().lower()).strip("_") for name in names]
    image = next((name for name in IMAGE_NAMES if name in plain), None)
    for base in CAPTION_NAMES:
        captions = [place for place, name in enumerate(plain) if re.fullmatch(rf"{base}s?_?\d*", name)]
        if captions and image is not None:
            break
    else:
        return None
    assert image is not None
    split = plain.index("split") if "split" in plain else None
    read = {plain.index(image), split, *captions}
    return Columns(
        image=plain.index(image),
        captions=tuple(captions),
        split=split,
        plural=frozenset(place for place in captions if plain[place] == f"{base}s"),
        unread=tuple(name for place, name in enumerate(names) if place not in read and plain[place]),
        repeated=next((name for name in (image, "split") if plain.count(name) > 1), ""),
    )


def is_image_name(text: str) -> bool:
    """Return whether a text ends as the name of an image file does."""
    return bool(_IMAGE_END.search(text.strip().strip('"')))


def listed(cell: str) -> list[str] | None:
    """Return the texts of a list in a cell; None if it holds no list.

    JSON's form is read, and those in which Python, pandas and NumPy write lists of strings.

    >>> listed('["a", "b"]'), listed("['a' 'it\\\\'s']"), listed("[laughs]")
    (['a', 'b'], ['a', "it's"], None)

    Raises:
        NoTexts: a JSON object, or a JSON list of something else than texts.
    """
    cell = cell.strip()
    if cell[:2] in ('"[', '"(', '"{') and cell[-1:] == '"':  # quoted, but the quotes inside are not doubled
        try:
            return listed(cell[1:-1])
        except NoTexts:
            return None
    if made := _MADE.fullmatch(cell):
        return _python_list(made[1])
    if not cell or cell[0] not in "[({":
        return None
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        return _python_list(cell)
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise NoTexts("a list of something else than texts" if isinstance(found, list) else "an object, no text")
    return found


def cell_texts(cell: str, of_lists: bool) -> list[str]:
    """Return the texts of a cell: those of its list, or the cell itself.

    Args:
        cell: as `listed` takes it.
        of_lists: whether its column holds lists, so that a bracket at one end is a list's.
    Raises:
        NoTexts: as `listed`, and for a list that is broken.
    """
    found = listed(cell)
    if found is None and (_BROKEN.match(cell) or (of_lists and _BRACKET.match(cell))):
        raise NoTexts("a broken list")
    return [cell] if found is None else found


def _python_list(cell: str) -> list[str] | None:
    if not _LIST.fullmatch(cell) and not _TUPLE.fullmatch(cell):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in the text
            return [ast.literal_eval(text) for text in re.findall(_TEXT, cell)]
    except (ValueError, SyntaxError):
        return None
