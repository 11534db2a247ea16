"""Log lines of clipedu on the screen.

`logging.getLogger("clipedu")` is the library's only logger.

A notebook shows its warnings, as Python does by default. The command line shows its information too.
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


def log_to_stderr(level: int = logging.INFO) -> None:
    """Write clipedu's log lines to stderr, from this level on.

    Calling it again adds no second handler.
    """
    logger = logging.getLogger("clipedu")
    if not any(isinstance(handler, AboveBars) for handler in logger.handlers):
        logger.addHandler(AboveBars())
    logger.setLevel(level)
