"""Files: written in one step, read with errors one can act on."""

from __future__ import annotations

import json
import math
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipedu.utils.errors import ClipeduError
from clipedu.utils.schema import Anything, Object, Spec, misfit


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

    What UTF-8 cannot hold (a file's name that is no text) is written as an escape.

    Raises:
        ClipeduError: it cannot be written.
    """
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write a value that JSON can hold, as `write_text` writes text.

    A number that is not finite, which JSON cannot hold, becomes null.
    """
    write_text(path, json.dumps(_without_nan(value), indent=2, allow_nan=False) + "\n")


def _without_nan(value: Any) -> Any:
    """Return a value of JSON with None in place of NaN and infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, (list, tuple)) else value


def read_text(path: Path) -> str:
    """Read a text file, UTF-8.

    Raises:
        FileNotFoundError: there is none.
        ClipeduError: it is no file, cannot be read, or is not UTF-8.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to read a pipe would wait for ever
            raise ClipeduError(f"{path} cannot be read: it is {'a folder' if path.is_dir() else 'no file'}")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ClipeduError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ClipeduError(f"{path} cannot be read: byte {error.start} is not UTF-8 text") from None


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    What is nested too deeply is a ValueError, like all else that is no JSON.

    Raises:
        ValueError: it cannot be parsed.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path, spec: Spec | None = None, remedy: str = "") -> Any:
    """Read the value in a JSON file; {} if there is no file.

    Args:
        path: of the file.
        spec: what the value must be (`clipedu.utils.schema`); None is any object.
        remedy: what to do if it cannot be read, for the error.
    Raises:
        ClipeduError: the file cannot be read, holds no JSON (NaN is none), or a value that does not fit: the message names
            the field, what was found and what is expected.
    """
    ending = f". {remedy}" if remedy else ""
    try:
        value = json.loads(read_text(path))
    except FileNotFoundError:
        return {}
    except ClipeduError as error:
        raise ClipeduError(f"{error}{ending}") from None
    except RecursionError:
        raise ClipeduError(f"{path} cannot be read: it is nested too deeply{ending}") from None
    except ValueError as error:
        raise ClipeduError(f"{path} cannot be read: it is not JSON ({error}){ending}") from None
    if fault := misfit(spec or Object(others=Anything()), value):
        raise ClipeduError(f"{path} cannot be read: {fault}{ending}")
    return value
