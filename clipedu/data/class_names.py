"""Names of classes, and prompts to put a class name in.

Zero-shot classification compares an image with one text a class. A bare word is a poor text: "crane" is a bird and a
machine, and captions are seldom one word long. So each class has one name of its own, and each name is put into several
prompts whose embeddings are averaged (Radford et al. 2021, section 3.1.4).

Published zero-shot numbers of ImageNet are made with other names and 80 prompts, those of open_clip; both can be chosen.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from clipedu.data.cleaning import is_blank
from clipedu.utils.errors import ClipeduError

log = logging.getLogger("clipedu")

IMAGENET_CLASSES = 1000

PHOTO_TEMPLATES = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a close-up of a {}.",
    "a picture that shows a {}.",
    "a small {} seen from far away.",
    "a blurry picture of a {}.",
    "a {}, photographed by an amateur.",
)

# Classes whose first name in WordNet another class has too (Cardigan and cardigan are one to a text encoder that lower-cases).
_CLEARER = {134: "crane bird", 264: "Cardigan Welsh corgi", 517: "construction crane", 639: "tank suit"}


def imagenet_classes(source: str = "clipedu") -> list[str]:
    """List the 1,000 class names of ImageNet-1k, in order of the index.

    Ours all differ in lower case: each is the first of the class's names in WordNet ("tench, Tinca tinca" gives "tench"), but
    where two classes share it. open_clip's are edited by hand; 639 are the same, and two are there twice ("missile",
    "sunglasses").

    Args:
        source: "clipedu" or "open_clip".
    Raises:
        ClipeduError: open_clip is not installed.
    """
    if source == "open_clip":
        return list(_open_clip("class names").IMAGENET_CLASSNAMES)
    from timm.data import ImageNetInfo

    names = ImageNetInfo("imagenet-1k").label_descriptions(detailed=False, as_dict=False)
    return [_CLEARER.get(index, name.split(",")[0].strip()) for index, name in enumerate(names)]


def open_clip_templates() -> tuple[str, ...]:
    """Return the 80 prompts of published ImageNet zero-shot numbers.

    Raises:
        ClipeduError: open_clip is not installed.
    """
    return tuple(template("{}") for template in _open_clip("templates").OPENAI_IMAGENET_TEMPLATES)


def _open_clip(what: str) -> ModuleType:
    try:
        import open_clip
    except ImportError:
        raise ClipeduError(
            f"open_clip's {what} come from its package, which is not installed: pip install open_clip_torch"
        ) from None
    return open_clip


def read_class_names(file: Path) -> list[str]:
    """Read a file of class names, one a line in order of the index.

    Two classes of one name are told by a log line.

    Args:
        file: in UTF-8; empty lines at its end do not count.
    Raises:
        ClipeduError: a line without a name, no names, or a file that is not UTF-8.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ClipeduError(
            f"{file} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8"
        ) from None
    names = ["" if is_blank(line) else line.strip() for line in lines]
    while names and not names[-1]:
        del names[-1]
    if not names:
        raise ClipeduError(f"{file} has no names: write one a line, in order of the class index")
    if "" in names:
        empty = names.index("")
        filled = next(place for place in range(empty, len(names)) if names[place])
        raise ClipeduError(
            f"{file}: line {empty + 1} is empty, and the lines are counted: it would name class {empty}, and {names[filled]!r} "
            f"class {filled}. Give class {empty} a name, or delete the line"
        )
    for line in same_names({index: name.casefold().split() for index, name in enumerate(names)}, names):
        log.warning(f"{file}: {line}")
    return names


def same_names(texts: Mapping[int, Sequence[object]], names: Sequence[str]) -> list[str]:
    """Say which classes cannot be told apart: at most three lines.

    Args:
        texts: class index to what an encoder reads of its name.
        names: of all classes.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for index, text in texts.items():
        alike.setdefault(tuple(text), []).append(index)
    groups = [group for group in alike.values() if len(group) > 1]
    lines = [
        f"classes {' and '.join(f'{index} {names[index]!r}' for index in group[:3])}{' and more' * (len(group) > 3)} cannot be "
        "told apart"
        for group in groups
    ]
    return lines if len(lines) <= 3 else [*lines[:2], f"{len(lines) - 2} more groups of classes cannot be told apart"]
