"""The command `clipedu` as a process of its own.

It does what a caller of `main` in another program would not expect: it looks for garbage seldom, and it ends at once. Python would take
apart all that the libraries have made before it ends, which is a second after any command.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress

from clipedu.cli.parser import main as command
from clipedu.utils.garbage import collect_seldom


def main() -> int:
    """Run the command of this process's arguments.

    Returns:
        its exit code, as of `clipedu.cli.parser.main`.
    """
    collect_seldom()
    codes: list[int] = []
    atexit.register(
        _leave, codes
    )  # the first that is registered is the last that is called, when all threads have ended
    codes.append(command())
    return codes[0]


def _leave(codes: list[int]) -> None:
    """End the process, if its command has an exit code; after an error Python ends it."""
    if codes:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # nobody reads it any more, or it is closed
                stream.flush()
        os._exit(codes[0])
