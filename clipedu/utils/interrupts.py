"""Ctrl-C that lets the current step end."""

from __future__ import annotations

import signal
import threading


class StopAfterStep:
    """Ctrl-C lets the step that is under way end, so that what is kept is whole; a second Ctrl-C stops at once.

    Signals reach only the main thread; in another one this does nothing.

    Attributes:
        step_is_whole: False if a second Ctrl-C came: then a step may be half done, and its weights must not be kept.
    """

    asked, step_is_whole = False, True

    def watch(self, records):
        """Pass records on; raise KeyboardInterrupt after the one during which Ctrl-C came."""
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

    def _ask(self, *_) -> None:
        if self.asked:
            self.step_is_whole = False
            raise KeyboardInterrupt
        self.asked = True
