"""The lock of a folder: one process at a time writes a run or a grid.

    RUN/.lock        locked by the system (flock) as long as its process lives, so a kill -9 leaves no lock behind
    RUN/.lock.json   who holds it: pid, host, command, since when

Where the file system has no locks, .lock.json alone is the lock: it names its process, and counts no more once that process
has ended. A process on another host cannot be asked; the error then says which file to delete.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import parse_json, read_text, reported, write_json
from clipedu.utils.processes import has_ended, this_process
from clipedu.utils.ranks import check_first_process

LOCK, HOLDER = ".lock", ".lock.json"
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}

log = logging.getLogger("clipedu")


@dataclass
class _Held:
    """A lock that this process holds: in which thread, and how many times."""

    pid: int
    thread: int
    depth: int = 1


_held: dict[str, _Held] = {}
_guard = threading.Lock()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; the thread that holds it may take it again.

    Args:
        folder: of a run or a grid; it must exist.
    Raises:
        ClipeduError: another process or thread holds it, and who that is; the folder cannot be written; or this is one of
            several processes of torchrun, and not the first of them.
    """
    check_first_process()
    key = str(folder.resolve())
    with _guard:
        held = _held.get(key)
        if held is not None and held.pid == os.getpid():
            if held.thread != threading.get_ident():
                raise _in_use(folder)
            held.depth += 1
        else:
            held = None
    if held is not None:
        try:
            yield
        finally:
            held.depth -= 1
        return
    with _alone(folder):
        with _guard:
            _held[key] = _Held(os.getpid(), threading.get_ident())
        try:
            yield
        finally:
            with _guard:
                _held.pop(key, None)


def check_unused(folder: Path) -> None:
    """Check that no process is known to hold the lock of a folder.

    Nothing is written.

    Raises:
        ClipeduError: one is, and who it is.
    """
    if in_use(folder):
        raise _in_use(folder)


def in_use(folder: Path) -> bool:
    """Return whether another process or thread holds a folder's lock."""
    return bool(holder := _holder(folder)) and not has_ended(holder)


def was_killed(folder: Path) -> bool:
    """Return whether the holder of a folder's lock is known to be killed.

    One that ends in any other way, after an error or Ctrl-C too, takes its name away.
    """
    return has_ended(_holder(folder))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Take the system's lock, or where there is none that of a file, and say who holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, thread_local=False)
    with reported(folder):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that a file stands in for the lock; it holds as well
                lock.acquire(timeout=0)
            system = True
        except Timeout:
            _await_name(folder)
            raise _in_use(folder) from None
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise
            system = False
        try:
            if system:
                with suppress(ClipeduError):  # a full disk: the lock holds without a name
                    write_json(folder / HOLDER, this_process())
            else:
                _claim(folder)
        except BaseException:
            lock.release()
            raise
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / HOLDER).unlink()
        lock.release()


def _claim(folder: Path) -> None:
    """Make the file that stands in for a lock.

    Raises:
        ClipeduError: a process that lives, or may live, has made it.
        OSError: it cannot be written.
    """
    log.info("%s is on a file system without locks: start no second process on it from another host", folder)
    if was_killed(folder):
        (folder / HOLDER).unlink(missing_ok=True)
    try:
        descriptor = os.open(folder / HOLDER, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        raise ClipeduError(f"{_in_use(folder)}. If that process has ended, delete {folder / HOLDER}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(this_process(), file)


def _await_name(folder: Path, seconds: float = 1.0) -> None:
    """Wait until the holder of a lock, which has just taken it, has written its name."""
    end = time.monotonic() + seconds
    while (not (holder := _holder(folder)) or has_ended(holder)) and time.monotonic() < end:
        time.sleep(0.02)


def _holder(folder: Path) -> dict[str, Any]:
    """Return who holds the lock, as far as it is written."""
    try:
        holder = parse_json(read_text(folder / HOLDER))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _in_use(folder: Path) -> ClipeduError:
    holder = _holder(folder)
    if not holder:
        who = "another process"
    elif holder.get("pid") == os.getpid() and holder.get("host") == this_process()["host"]:
        who = f"another thread of this process ({holder.get('pid')}), since {holder.get('since')}"
    else:
        who = f"process {holder.get('pid')} on {holder.get('host')} ({holder.get('command')}), since {holder.get('since')}"
    return ClipeduError(f"{folder} is in use by {who}: wait until it has ended, or stop it")
