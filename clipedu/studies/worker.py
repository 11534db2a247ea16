"""A worker process of a pool: it does one task after the other.

It speaks with its parent (`clipedu.studies.pool`) through its standard input and output, one pickled message after the other. What
anything else prints goes to the standard error. When the parent has ended, however that was, the input ends: the worker then
stops as by SIGTERM, so that a run keeps its checkpoint, and leaves no process behind.

    parent -> worker    Start, then Do for each task; Stop to stop it; the end of the input
    worker -> parent    Ready, Said (a log line or a warning), Steps, and for each task Ended
"""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from clipedu.utils.garbage import collect_seldom

EVERY = 0.2  # seconds between two messages on steps
LAST_WORDS = 60.0  # seconds in which a worker whose parent has ended can write its checkpoint


@dataclass(frozen=True)
class Start:
    """The first message: which process this is to be.

    Attributes:
        function: "module:name" of what does a task: called with what is shared, the arguments of the task, and `on_steps`.
        threads: of torch.
        level: of log lines.
        argv: of the parent, as whose part the worker is known.
    """

    function: str
    threads: int
    level: int
    argv: list[str]


@dataclass(frozen=True)
class Do:
    """A task: a file of `clipedu.utils.shared_objects`, and arguments."""

    shared: Path
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Stop:
    """Stop the task as this signal does."""

    number: int


@dataclass(frozen=True)
class Ready:
    """The worker has begun, and can be asked to stop."""


@dataclass(frozen=True)
class Said:
    """A log line, or a warning of a category and a place."""

    level: int
    text: str
    category: type[Warning] | None = None
    file: str = ""
    line: int = 0


@dataclass(frozen=True)
class Steps:
    """How many steps of the task are done, and of how many."""

    done: int
    of: int


@dataclass(frozen=True)
class Ended:
    """A task has ended.

    Attributes:
        error: what it raised, None if it is done.
        trace: where, as text.
    """

    error: BaseException | None = None
    trace: str = ""


def main() -> None:
    """Be a worker until the input ends; never return."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has it ignored
    collect_seldom()
    inbox, outbox = _take_streams()
    parent = _Parent(outbox)
    try:
        start: Start = pickle.load(inbox)
        sys.argv = start.argv
        _relay(parent, start.level)
        module, name = start.function.split(":")
        function = getattr(importlib.import_module(module), name)
        _set_threads(start.threads)
    except EOFError:
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(1)

    from clipedu.utils.interrupts import terminable

    tasks: queue.SimpleQueue[Do | None] = queue.SimpleQueue()
    current = _Current()
    threading.Thread(target=_listen, args=(inbox, tasks, current), daemon=True).start()
    try:
        with terminable():
            parent.send(Ready())
            while (task := tasks.get()) is not None:
                parent.send(_ended(function, task, current, parent))
    except KeyboardInterrupt as error:
        parent.send(Ended(error))
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(0)


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Take standard input and output for messages, and let all others print to the standard error."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return inbox, outbox


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


class _Parent:
    """Who started this process."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def send(self, message: Any) -> None:
        """Send a message; nobody may be there to read it any more."""
        packed = pickle.dumps(message)
        with self._lock, suppress(OSError, ValueError):
            self._stream.write(packed)
            self._stream.flush()


class _Current:
    """What is shared, the file that it is from, and the file of the last task that was given."""

    def __init__(self) -> None:
        self.shared: Any = None
        self.path: Path | None = None
        self.given: Path | None = None


def _ended(function: Callable[..., None], task: Do, current: _Current, parent: _Parent) -> Ended:
    """Do a task, and return how it has ended. Raises KeyboardInterrupt."""
    from clipedu.utils.shared_objects import open_shared

    told = [-EVERY]

    def on_steps(done: int, of: int) -> None:
        if (now := time.monotonic()) - told[0] >= EVERY or done == of:
            told[0] = now
            parent.send(Steps(done, of))

    try:
        if current.path != task.shared:
            current.shared = None  # its memory is free before the next one comes
            current.shared, current.path = open_shared(task.shared), task.shared
        function(current.shared, *task.arguments, on_steps=on_steps)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Ended(_sendable(error), traceback.format_exc())
    return Ended()


def _sendable(error: BaseException) -> BaseException:
    """Return an error that can be sent: itself, or one of the same words."""
    try:
        if str(pickle.loads(pickle.dumps(error))) == str(error):
            return error
    except Exception:  # noqa: BLE001  a library's error may not be picklable in any way
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")


def _listen(inbox: BinaryIO, tasks: queue.SimpleQueue[Do | None], current: _Current) -> None:
    """Take the parent's messages until the input ends."""
    try:
        while True:
            message = pickle.load(inbox)
            if isinstance(message, Stop):
                _signal_main(message.number)
            elif message is None:
                return tasks.put(None)
            else:
                current.given = message.shared
                tasks.put(message)
    except (EOFError, OSError, pickle.UnpicklingError):
        pass
    tasks.put(None)
    if current.given is not None:  # nobody else is there to tidy up
        with suppress(OSError):
            current.given.unlink()
        with suppress(OSError):
            current.given.parent.rmdir()
    _signal_main(signal.SIGTERM)
    time.sleep(LAST_WORDS)
    os._exit(1)


def _signal_main(number: int) -> None:
    """Let the main thread handle a signal."""
    if os.name == "nt":
        import _thread

        _thread.interrupt_main(signal.Signals(number))
    else:
        os.kill(os.getpid(), number)


def _relay(parent: _Parent, level: int) -> None:
    """Send log lines and warnings to the parent, which shows them."""

    class Relay(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            parent.send(Said(record.levelno, record.getMessage()))

    logger = logging.getLogger("clipedu")
    logger.handlers, logger.propagate = [Relay()], False
    logger.setLevel(level)

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
        known = category if category.__module__.partition(".")[0] in ("builtins", "torch", "numpy") else UserWarning
        parent.send(Said(logging.WARNING, str(message), known, filename, lineno))

    warnings.showwarning = show  # type: ignore[assignment]
