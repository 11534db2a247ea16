"""Tables of a run that grow: rows of ever later steps, appended.

history.csv, norms.csv, layers.csv and validation.csv get their new rows just before each checkpoint, so that a long run writes each row
once. A process that is killed leaves rows of steps after its last checkpoint, and perhaps a part of a line: `cut_rows` drops both
when the run goes on, and readers leave out a last line that is not whole.
"""

from __future__ import annotations

import csv
import io
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import reported, write_text

if TYPE_CHECKING:
    import pandas


def append_rows(path: Path, frame: pandas.DataFrame) -> None:
    """Append rows to a table; what was there stays if that fails.

    Args:
        path: of the CSV file, made if there is none.
        frame: the rows, with "step" as their first column, none before those in the file. Columns that the file does not have
            are added to it, empty, and the file is written anew.
    Raises:
        ClipeduError: they cannot be written.
    """
    if not len(frame):
        return
    text = _csv(frame)
    head = f"{text.partition(chr(10))[0]}\n".encode()
    with reported(path):
        found = b""
        if path.is_file():
            with path.open("rb") as file:
                found = file.readline()
    if not found:
        write_text(path, text)
    elif found == head:
        _append(path, text.encode()[len(head) :])
    else:
        _merge(path, text)


def cut_rows(path: Path, step: int) -> None:
    """Drop the rows of a table from a step on, and a last line in part.

    Args:
        path: of the CSV file; there may be none.
        step: of the first row to drop.
    Raises:
        ClipeduError: the file cannot be changed, or its rows do not begin with a step.
    """
    with reported(path):
        size = path.stat().st_size if path.is_file() else 0
        if not size:
            return
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            end = _end(content, step, path)
        if end < size:
            with path.open("rb+") as changed:
                changed.truncate(end)


class NewRows:
    """The rows of a table that have come since they were last asked for.

    Args:
        path: of the CSV file; there may be none yet.
        first: the first step to return.
    """

    def __init__(self, path: Path, first: int = 0):
        self.path, self._first = path, first
        self._head, self._read = b"", 0  # what is read already, in bytes

    def take(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield step and cells of each new row, by column.

        "" is a cell without a value. A last line that is not whole is left for the next time.

        Raises:
            OSError: the file cannot be read.
            ValueError: a row does not begin with a step.
        """
        if not self.path.is_file():
            return
        last = None
        with self.path.open("rb") as file:
            head = file.readline()
            if head != self._head:  # the first time, or the file was written anew with other columns
                self._head, self._read = head, len(head)
            file.seek(self._read)
            columns = next(csv.reader([head.decode()]))
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                cells = dict(zip(columns, next(csv.reader([line.decode()])), strict=True))
                if (step := int(cells.pop("step"))) >= self._first:
                    yield step, cells
                    last = step
        if last is not None:
            self._first = last + 1


def _end(content: mmap.mmap, step: int, path: Path) -> int:
    """Return where the rows before `step` end, in bytes."""
    end = content.rfind(b"\n") + 1
    while (start := content.rfind(b"\n", 0, max(0, end - 1)) + 1) > 0:
        first = content[start:end].partition(b",")[0]
        if not first.isdigit():
            raise ClipeduError(f"{path} cannot be read: the row {content[start:end][:40]!r} does not begin with a step")
        if int(first) < step:
            break
        end = start
    return end


def _append(path: Path, rows: bytes) -> None:
    """Append whole lines to a file, or leave it as it is."""
    with reported(path), path.open("ab", buffering=0) as file:
        size = file.seek(0, 2)
        try:
            left = memoryview(rows)
            while left:
                left = left[file.write(left) :]
        except BaseException:
            file.truncate(size)
            raise


def _merge(path: Path, text: str) -> None:
    """Append rows with other columns than a file has, by writing it anew.

    Cells are not read as numbers, so that they stay what they are.
    """
    import pandas as pd

    with reported(path):
        parts = [pd.read_csv(part, dtype=str, keep_default_na=False) for part in (path, io.StringIO(text))]
    both = pd.concat(parts, ignore_index=True).fillna("")
    write_text(path, _csv(both))


def _csv(frame: pandas.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.7g", lineterminator="\n")
