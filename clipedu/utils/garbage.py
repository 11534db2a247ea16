"""Python's search for cycles of garbage, for a process of one's own.

By default it runs after every 700 new objects, and looks through all 450,000 objects that the libraries made at their import again
and again.
"""

from __future__ import annotations

import gc

NEW_OBJECTS = 50_000  # before the next search; all of them together take a few MB


def collect_seldom() -> None:
    """Let the search run seldom from now on."""
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
