"""What does not fit a run is one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clipedu.utils.errors import ClipeduError
from clipedu.utils.memory import is_out_of_memory


@contextmanager
def fitting(what: str) -> Iterator[None]:
    """Turn errors of using `what` into one line; nothing if it is "".

    Raises:
        ClipeduError: the block failed because `what` does not fit.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError, IndexError) as error:
        if not what or is_out_of_memory(error):
            raise
        if isinstance(error, ClipeduError):
            raise ClipeduError(f"{what} does not fit the run: {error}") from None
        why = next(iter(str(error).splitlines()), "")[:200]
        raise ClipeduError(f"{what} does not fit the run: {type(error).__name__}: {why}") from None
