"""Ctrl-C that lets a step end, and that is heard during foreign code."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class StopAfterStep:
    """Let the current step end on Ctrl-C; a second one stops at once.

    What is kept is thus complete. Signals reach only the main thread; in another one this does nothing.

    Attributes:
        step_is_whole: False if a second Ctrl-C came: then a step may be half done, and its weights must not be kept.
    """

    asked, step_is_whole = False, True

    def watch(self, records: Iterable[T]) -> Iterator[T]:
        """Pass on records; raise KeyboardInterrupt after a step with Ctrl-C."""
        main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, self._ask) if main else None
        try:
            for record in records:
                yield record
                if self.asked:
                    raise KeyboardInterrupt
        finally:
            if main:
                signal.signal(signal.SIGINT, before)

    def _ask(self, *_: object) -> None:
        if self.asked:
            self.step_is_whole = False
            raise KeyboardInterrupt
        self.asked = True


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
