"""Libraries that load their parts when asked, one thread at a time.

transformers replaces its own module while it is imported, and imports a model's module when its class is first used: a second
thread that does so at that moment gets an ImportError.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.RLock()


@contextmanager
def importing() -> Iterator[None]:
    """Let one thread at a time run the block, or the decorated function."""
    with _LOCK:
        yield
