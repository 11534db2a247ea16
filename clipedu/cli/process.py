"""The command `clipedu` as a process of its own.

What a process may set for itself, and a caller of `main` in another program would not expect: Python's search for cycles of
garbage runs seldom. By default it runs after every 700 new objects, and looks through all 450,000 objects that the libraries
made at their import again and again, and once more before the process ends.
"""

from __future__ import annotations

import gc

from clipedu.cli.parser import main as command

NEW_OBJECTS = 50_000  # before the next search; all of them together take a few MB


def main() -> int:
    """Run the command of this process's arguments.

    Returns:
        its exit code, as of `clipedu.cli.parser.main`.
    """
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    try:
        return command()
    finally:
        gc.freeze()  # what is left now goes with the process
