"""Files: written in one step, read with errors one can act on."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipedu.utils.errors import ClipeduError


@contextmanager
def atomic_write(path: Path, *, sync: bool = False, remedy: str = "") -> Iterator[Path]:
    """Replace a file in one step: write to the path this yields, beside it.

    The file is renamed to `path` when the block ends. After an error, a full disk or a kill, `path` is what it was before.
    Its permissions are those of any new file (the umask's), however the block writes it: safetensors makes private files.

    Args:
        path: the file to write or to replace.
        sync: wait until the contents are on the disk, so that they survive a power cut.
        remedy: what to do if it cannot be written, for the error.
    Raises:
        ClipeduError: it cannot be written, or the block raised an OSError.
    """
    partial = _partial(path)
    with reported(path, remedy):
        try:
            partial.touch(exist_ok=False)
            mode = partial.stat().st_mode
            yield partial
            if partial.stat().st_mode != mode:
                partial.chmod(mode)
            if sync:
                with partial.open("rb+") as file:
                    os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Make a folder in one step: fill the one this yields, beside it.

    It is renamed to `path`, which must be free or an empty folder, when the block ends. After an error nothing is left.
    Its files get the permissions of new files, as with `atomic_write`.

    Raises:
        ClipeduError: it cannot be written, or the block raised an OSError.
    """
    partial = _partial(path)
    with reported(path):
        try:
            partial.mkdir(parents=True)
            (probe := partial / ".mode").touch()
            mode = probe.stat().st_mode
            probe.unlink()
            yield partial
            for file in partial.rglob("*"):
                if file.is_file() and file.stat().st_mode != mode:
                    file.chmod(mode)
            if path.is_dir():
                path.rmdir()
            partial.rename(path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def check_writable(folder: Path, remedy: str = "") -> None:
    """Make a folder and check that files can be written in it.

    Use it before a long computation whose result goes there.

    Raises:
        ClipeduError: they cannot; `remedy` says what to do.
    """
    with reported(folder, remedy):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def remove_partial_files(folder: Path) -> None:
    """Remove what writes that were killed have left in a folder.

    Args:
        folder: nobody else may be writing there.
    """
    for path in [*folder.glob(".*.partial"), *folder.glob(".*.damaged")]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    """Return a name beside `path` that no other writer uses."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


@contextmanager
def reported(path: Path, remedy: str = "") -> Iterator[None]:
    """Turn an error of writing into one line that names `path`.

    Such an error is a full disk or a missing permission. The line ends with `remedy` if there is one.

    Raises:
        ClipeduError: the block raised an OSError or a SafetensorError.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise ClipeduError(f"{path} cannot be written: {why}" + (f". {remedy}" if remedy else "")) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step (see `atomic_write`), as UTF-8.

    Raises:
        ClipeduError: it cannot be written.
    """
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value that JSON can hold, as `write_text` writes text."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a file; {} if there is no file.

    Raises:
        ClipeduError: the file cannot be read, or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ClipeduError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise ClipeduError(f"{path} cannot be read: it holds a {type(value).__name__}, not an object")
    return value
