"""Read captions from JSON: COCO's, Karpathy's, records, or JSON lines.

    {"images": [{"id": 9, "file_name": "9.jpg"}], "annotations": [{"image_id": 9, "caption": "a dog"}]}      COCO
    {"images": [{"filename": "9.jpg", "split": "restval", "sentences": [{"raw": "a dog"}]}]}                 Karpathy
    [{"image": "9.jpg", "caption": "a dog"}, {"image": "8.jpg", "caption": ["a cat", "it sleeps"]}]          records

Keys of records have the names that columns of tables may have.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clipedu.data.sources.caption_columns import Columns, NoTexts, cell_texts, find_columns
from clipedu.data.sources.caption_rows import CaptionTable
from clipedu.utils.errors import ClipeduError, shorten

_FORMS = (
    'COCO\'s {"images": [...], "annotations": [...]}, Karpathy\'s {"images": [{"filename", "sentences"}]}, a list of '
    '{"image", "caption"}, or such an object a line'
)
_NO_SPLITS = "no record has a split, so all are train"


class _Repeated(dict):
    """An object in which a key stands twice, so that one value is lost."""


def read_json_captions(text: str, path: Path) -> CaptionTable:
    """Read the captions of a JSON file.

    Args:
        text: of the file.
        path: of the file, for messages.
    Raises:
        ClipeduError: no JSON, or of another form.
    """
    table = CaptionTable()
    value = _parse(text, path)
    if isinstance(value, _Repeated):
        raise ClipeduError(f"{path} has a key twice in its outermost object, so it is not clear which one counts")
    if isinstance(value, _Lines):
        _take_records(table, value, "line")
    elif isinstance(value, list):
        _take_records(table, enumerate(value, 1), "item")
    elif "annotations" in value:
        _take_coco(table, value, path)
    elif isinstance(value.get("images"), list):
        _take_records(table, enumerate(value["images"], 1), "image")
    elif find_columns(list(value)) is not None:
        _take_records(table, [(1, value)], "item")
    else:
        keys = shorten(", ".join(value), 120) or "no keys"
        raise ClipeduError(f"{path} is an object with {keys}. Forms that are read: {_FORMS}")
    return table


class _Lines(list):
    """The values of a file with one JSON value a line, with their numbers."""


def _parse(text: str, path: Path) -> Any:
    try:
        return _load(text)
    except (ValueError, RecursionError) as error:
        if lines := _lines(text):
            return lines
        where = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        what = (
            error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply, or a number is too long"
        )
        raise ClipeduError(f"{path} begins as JSON does, but is none: {what}{where}") from None


def _load(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Repeated(found)


def _lines(text: str) -> _Lines:
    """Return the objects of JSON lines; nothing if the text is none such."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not any(isinstance(_load_line(line), dict) for _, line in lines[:3]):
        return _Lines()
    return _Lines((number, _load_line(line)) for number, line in lines)


def _load_line(line: str) -> Any:
    try:
        return _load(line)
    except (ValueError, RecursionError):
        return None


def _take_records(table: CaptionTable, items: Iterable[tuple[int, Any]], unit: str) -> None:
    items = list(items)
    splits = any(_has_split(item) for _, item in items)
    for number, item in items:
        _take_record(table, number, item, unit, splits)
    if not splits:
        table.notes.append(_NO_SPLITS)
    if unread := dict.fromkeys(key for _, item in items for key in _unread(item)):
        table.notes.append(f"not read: {shorten(', '.join(unread), 120)}")


def _unread(item: Any) -> list[str]:
    """Return the keys of a record that could be captions, but other keys are."""
    columns = find_columns(list(item)) if isinstance(item, dict) else None
    return [] if columns is None else [key for key in columns.unread if find_columns(["image", key]) is not None]


def _has_split(item: Any) -> bool:
    return isinstance(item, dict) and bool(_split_of(item))


def _split_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"split": value for key, value in item.items() if key.strip().lower() == "split"}  # noqa: B035  one key


def _take_record(table: CaptionTable, number: int, item: Any, unit: str, splits: bool) -> None:
    """Take one record; one without a split is left out if others have one."""
    columns, name, fault = _describe(item)
    if columns is None or fault:
        table.drop(number, name, fault, unit=unit)
        return
    keys = list(item)
    split = None if columns.split is None else item[keys[columns.split]]
    if split is not None and not isinstance(split, str):
        table.drop(number, name, "split is no text", unit=unit)
        return
    try:
        texts = [text for place in columns.captions for text in _texts(item[keys[place]], place in columns.plural)]
    except NoTexts as error:
        table.drop(number, name, f"captions are {error}", unit=unit)
        return
    table.take(number, name, texts, "" if splits and split is None else split, unit=unit)


def _describe(item: Any) -> tuple[Columns | None, str, str]:
    """Return where a record has what, its image, and what is wrong with it."""
    if not isinstance(item, dict):
        return None, "", "is no JSON object"
    columns = find_columns(list(item))
    name = _image_name(item)
    if isinstance(item, _Repeated) or (columns is not None and columns.repeated):
        return columns, name, "a key stands twice in it"
    if columns is None:
        return None, name, "no caption" if name else "no image name"
    return columns, name, "" if name else "its image name is no text"


def _image_name(item: dict[str, Any]) -> str:
    """Return the image of a record, "" if it has none.

    Karpathy's files have the folder in "filepath" and the name in "filename".
    """
    folder, name = item.get("filepath"), item.get("filename")
    if isinstance(folder, str) and isinstance(name, str):
        return name if not folder or name.startswith(f"{folder}/") else f"{folder}/{name}"
    columns = find_columns([*item, "caption"])
    value = None if columns is None else item[list(item)[columns.image]]
    return value if isinstance(value, str) else ""


def _texts(value: Any, plural: bool) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return cell_texts(value, plural)
    if not isinstance(value, list):
        raise NoTexts("no text and no list of texts")
    if any(isinstance(text, _Repeated) for text in value):
        raise NoTexts("objects in which a key stands twice")
    texts: list[Any] = [text.get("raw", text.get("caption")) if isinstance(text, dict) else text for text in value]
    if any(not isinstance(text, str) for text in texts):
        raise NoTexts("a list of something else than texts")
    return texts


def _take_coco(table: CaptionTable, value: dict[str, Any], path: Path) -> None:
    images, annotations = value.get("images"), value["annotations"]
    if not isinstance(images, list) or not isinstance(annotations, list):
        raise ClipeduError(
            f'{path} is not of COCO\'s form: "images" and "annotations" must be lists. Forms that are read: {_FORMS}'
        )
    if annotations and not any(isinstance(one, dict) and "caption" in one for one in annotations):
        raise ClipeduError(
            f"{path} has annotations without captions: give COCO's captions_*.json, not instances_*.json"
        )
    known: dict[str, tuple[int, dict[str, Any]]] = {}
    for number, image in enumerate(images, 1):
        name = _image_name(image) if isinstance(image, dict) else ""
        identity = _identity(image, "id")
        if not name or identity is None or isinstance(image, _Repeated) or identity in known:
            fault = "no image name or no id" if not name or identity is None else "two images have this id"
            table.drop(number, name, fault, unit="image")
        else:
            known[identity] = (number, {"image": name} | _split_of(image))
    splits = any(map(_has_split, [*images, *annotations]))
    captioned = set()
    for number, one in enumerate(annotations, 1):
        identity = _identity(one, "image_id")
        if identity not in known or isinstance(one, _Repeated):
            why = "a key stands twice in it" if isinstance(one, _Repeated) else "no image has its image_id"
            table.drop(number, "", why, unit="annotation")
            continue
        captioned.add(identity)
        record = _split_of(one) | known[identity][1] | {"caption": one.get("caption")}
        _take_record(table, number, record, "annotation", splits)
    for identity, (number, image) in known.items():
        if identity not in captioned:
            table.drop(number, image["image"], "no caption", unit="image")
    if not splits:
        table.notes.append(_NO_SPLITS)


def _identity(item: Any, key: str) -> str | None:
    """Return an id as text: 42 and "42" are the same."""
    value = item.get(key) if isinstance(item, dict) else None
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
