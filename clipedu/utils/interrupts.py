"""Ctrl-C and SIGTERM: they let a step end, and end foreign code."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from clipedu.utils.ranks import most

T = TypeVar("T")


class Terminated(KeyboardInterrupt):
    """SIGTERM came: to be ended as by Ctrl-C, with what is done kept."""


def by_whom(error: KeyboardInterrupt) -> str:
    """Return who has ended a run, as a status says it: "by SIGTERM"."""
    return "by SIGTERM" if isinstance(error, Terminated) else "by the user"


class _OnSigterm:
    """A handler of SIGTERM. Schedulers send it more than once: what the first one began goes on undisturbed.

    A child that a library forks inherits the handler, but not what it would end: it ends as it would without.
    """

    seen = False  # of the class: whether it came while any of them was in place

    def __init__(self, then: Callable[[], None]):
        self.then, self.owner = then, os.getpid()

    def __call__(self, number: int, _: object) -> None:
        if os.getpid() != self.owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not _OnSigterm.seen:
            _OnSigterm.seen = True
            self.then()


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, do what Ctrl-C does.

    It raises `Terminated` in the block, once; a second one is ignored there. Where there is another handler of SIGTERM than
    Python's own it stays. In other threads than the main one this does nothing.
    """
    if not _in_main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop() -> None:
        raise Terminated

    _OnSigterm.seen = False
    signal.signal(signal.SIGTERM, _OnSigterm(stop))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class StopAfterStep:
    """Let the current step end on Ctrl-C or SIGTERM.

    A second Ctrl-C stops at once.

    What is kept is thus complete. Signals reach only the main thread; in another one this does nothing.

    Attributes:
        asked: the error to raise after the step, None if no signal came.
        step_is_whole: False if a second Ctrl-C came: then a step may be half done, and its weights must not be kept.
    """

    def __init__(self) -> None:
        self.asked: KeyboardInterrupt | None = None
        self.step_is_whole = True
        self._at_once = False

    def watch(self, records: Iterable[T]) -> Generator[T, None, None]:
        """Pass on records; raise KeyboardInterrupt after a step with a signal."""
        before = dict(self._handle()) if _in_main_thread() else {}
        try:
            for record in records:
                yield record
                if most(self.asked is not None):  # of all processes of a run: they end after the same step
                    raise self.asked or KeyboardInterrupt()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self) -> Iterator[tuple[int, Any]]:
        """Take the two signals, and yield the handlers that they had."""
        yield signal.SIGINT, signal.signal(signal.SIGINT, self._ask)
        before = signal.getsignal(signal.SIGTERM)
        if before is signal.SIG_DFL or isinstance(before, _OnSigterm):  # any other is a user's own
            if before is signal.SIG_DFL:
                _OnSigterm.seen = False
            yield signal.SIGTERM, signal.signal(signal.SIGTERM, _OnSigterm(lambda: self._stop(Terminated())))

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal raise at once in the block, which is between two steps."""
        if self.asked is not None:
            raise self.asked
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _ask(self, *_: object) -> None:
        if self.asked is not None and not self._at_once:
            self.step_is_whole = False
            raise KeyboardInterrupt
        self._stop(KeyboardInterrupt())

    def _stop(self, error: KeyboardInterrupt) -> None:
        self.asked = error
        if self._at_once:
            raise error


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def interruptible(work: Callable[[], T]) -> T:
    """Run a function that does not hear Ctrl-C, in a thread of its own.

    A function of another language returns to Python, and so to Ctrl-C, only at its end. After Ctrl-C nobody waits for it: it
    runs on in the background, or ends with the process.

    Args:
        work: must release Python's lock while it works.
    Returns:
        what `work` returns.
    Raises:
        KeyboardInterrupt: at once.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001  raised again where it was waited for
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if failed:
        raise failed[0]
    return done[0]
