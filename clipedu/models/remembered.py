"""What models that share frozen encoders find once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def found_once(model: Any, key: Any, find: Callable[[], T]) -> T:
    """Return what `find` does, found once for models that share encoders.

    They share `DualEncoder.remembered`; a model without it remembers nothing.

    Args:
        model: any.
        key: of what is found; it can be hashed.
        find: depends on frozen encoders and the key alone.
    """
    remembered = getattr(model, "remembered", None)
    if remembered is None:
        return find()
    if key not in remembered:
        remembered[key] = find()
    return remembered[key]
