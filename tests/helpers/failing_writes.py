"""File operations that fail, or during which the process is killed: one of them, chosen by number.

Python reports each operation to audit hooks before it is done, wherever it comes from; what libraries write from Rust or C
is not seen.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOM = {"open", "os.mkdir", "os.rename"}  # what a full disk refuses; a file that is there can be opened
CHANGES = {*ROOM, "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree", "os.truncate"}
_plan: dict = {}
_hooked: list[bool] = []


def _hook(event: str, args: tuple) -> None:
    if not _plan or event not in _plan["events"]:
        return
    if event == "open" and not args[2] & _plan["flags"]:
        return
    if not isinstance(args[0], (str, os.PathLike)) or not str(args[0]).startswith(_plan["under"]):
        return
    _plan["seen"].append(f"{event} {args[0]}")
    if _plan["number"] in (None, len(_plan["seen"]) - 1):
        _plan["act"]()


@contextmanager
def acting_at(number: int | None, folder: Path, act: Callable[[], None], events: set[str]) -> Iterator[list[str]]:
    """Call `act` before operation `number` (from 0; None: all) below a folder; yields the operations so far."""
    flags = os.O_CREAT if events == ROOM else os.O_CREAT | os.O_WRONLY | os.O_RDWR
    if not _hooked:
        sys.addaudithook(_hook)  # for good: it does nothing without a plan
        _hooked.append(True)
    _plan.update(number=number, under=str(folder), act=act, events=events, seen=[], flags=flags)
    try:
        yield _plan["seen"]
    finally:
        _plan.clear()


def full_at(number: int | None, folder: Path):
    """A disk that is full for one operation; for None, from now on."""

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return acting_at(number, folder, full, ROOM)


def killed_at(number: int, folder: Path, work: Callable[[], object]) -> bool:
    """Do some work in a child process that is killed before operation `number`; False if it has less."""
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException), acting_at(number, folder, lambda: os._exit(9), CHANGES):
            work()
            code = 0
        os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), "the work failed before it was killed"
    return status == 9
