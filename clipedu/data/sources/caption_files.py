"""Read a file of captions of any form: a table or JSON, by its contents."""

from __future__ import annotations

import codecs
from pathlib import Path

from clipedu.data.sources.caption_json import read_json_captions
from clipedu.data.sources.caption_rows import CaptionTable
from clipedu.data.sources.caption_tables import read_table
from clipedu.utils.errors import ClipeduError

_MARKS = {  # the longer ones first: UTF-32's begins as UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_captions(path: Path) -> CaptionTable:
    """Read the images and captions of a file.

    Args:
        path: a table (see `caption_tables`) or JSON (see `caption_json`), in UTF-8, or in UTF-16 as spreadsheets write it.
    Raises:
        ClipeduError: it cannot be read, is no text, or has none of the forms.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ClipeduError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    text = _decode(data, path)
    if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "["):
        return read_json_captions(text.lstrip("\ufeff"), path)
    return read_table(text, path)


def _decode(data: bytes, path: Path) -> str:
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8-sig")
    if encoding == "utf-8-sig" and len(data) > 3 and 0 in data[:2] and any(data[:2]):  # no mark, and a NUL a letter
        encoding = "utf-16-be" if data[0] == 0 else "utf-16-le"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        what = "UTF-8" if encoding == "utf-8-sig" else encoding.upper()
        raise ClipeduError(
            f"{path} cannot be read: it is not {what} (line {line}). Give a CSV, TSV or JSON file, saved as UTF-8"
        ) from None
