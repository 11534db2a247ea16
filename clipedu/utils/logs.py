"""Log lines of clipedu on the screen.

`logging.getLogger("clipedu")` is the library's only logger.

Warnings are always shown, as Python does by default; information by the command line, and by functions that are called with
`progress=True`.
"""

from __future__ import annotations

import logging
import sys


class AboveBars(logging.Handler):
    """Writes records to stderr, above the progress bars that are there."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:  # noqa: BLE001  as every handler of logging
            self.handleError(record)


def show_progress_lines(progress: bool) -> None:
    """Write log lines to stderr where a caller wants to see progress.

    A notebook or script that passes `progress=True` sees them above the bars. Whoever has configured logging, for the root or for
    "clipedu", gets them there and nowhere else.

    Args:
        progress: what the caller was given.
    """
    if progress and not logging.getLogger("clipedu").hasHandlers():
        log_to_stderr()


def log_to_stderr(level: int = logging.INFO) -> None:
    """Write clipedu's log lines to stderr, from this level on.

    Calling it again adds no second handler.
    """
    logger = logging.getLogger("clipedu")
    if not any(isinstance(handler, AboveBars) for handler in logger.handlers):
        logger.addHandler(AboveBars())
    logger.setLevel(level)
