"""`StopAfterStep`: Ctrl-C that lets the current step end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
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
