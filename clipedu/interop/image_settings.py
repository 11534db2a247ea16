"""Size, mean and standard deviation of a released model's images."""

from __future__ import annotations

import math
from typing import Any

from clipedu.utils.errors import ClipeduError, quoted


def check_image_size(image_size: Any) -> None:
    """Check a size that a user gave.

    Args:
        image_size: height and width in pixels; None is the model's own.
    Raises:
        ClipeduError: it is no whole number, or below 1.
    """
    if image_size is not None and (type(image_size) is not int or image_size < 1):
        raise ClipeduError(
            f"image_size={quoted(image_size)} must be a whole number of pixels, at least 1, height and width of the images; None is the "
            "model's own"
        )


def one_side(name: str, size: Any, asked: int | None = None) -> int:
    """Return height and width of a model's images.

    Args:
        name: of the model, for messages.
        size: a number, or a pair.
        asked: what a user wants instead; then a pair may be of different numbers.
    Returns:
        the model's own size; 0 for a pair of different numbers, or where nothing is said (None).
    Raises:
        ClipeduError: no numbers of pixels; images that are not square, and no other size was asked for.
    """
    sides = set(size) if isinstance(size, (list, tuple)) else {size}
    if not sides or not all(type(side) is int and side > 0 for side in sides):
        if asked is not None and sides == {None}:
            return 0
        raise ClipeduError(
            f"{name}: the size of its images is {quoted(size)}, and must be a number of pixels, at least 1"
        )
    if len(sides) == 1:
        return sides.pop()
    if asked is None:
        raise ClipeduError(
            f"{name}: images of {quoted(size)} pixels are not square, and clipedu's are: give image_size=N, if it can read others"
        )
    return 0


def check_patches(name: str, size: int, patch: Any) -> None:
    """Check that images can be cut into patches.

    Args:
        name: of the model, for messages.
        size: height and width of the images.
        patch: of a patch, a number or a pair; anything else has none.
    Raises:
        ClipeduError: something would be left over; names the next sizes that fit.
    """
    sides = patch if isinstance(patch, (list, tuple)) else (patch,)
    for side in sides:
        if type(side) is int and side > 0 and size % side:
            below, above = size // side * side, (size // side + 1) * side
            near = f"{below} or {above}" if below else f"{above}"
            raise ClipeduError(f"{name}: image_size={size} is no multiple of its patches' {side} pixels: take {near}")


def pixel_stats_of(name: str, mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of a model's pixels.

    They are of pixels in 0..1, a number a channel.

    Args:
        name: of the model, for messages.
        mean, std: as its settings have them.
    Raises:
        ClipeduError: they are not three numbers each, or a standard deviation is not above 0.
    """
    for what, values, least in (("mean", mean, -math.inf), ("std", std, 0.0)):
        fits = isinstance(values, (list, tuple)) and len(values) == 3
        if not fits or not all(type(x) in (int, float) and math.isfinite(x) and x > least for x in values):
            above = ", above 0" if what == "std" else ""
            raise ClipeduError(
                f"{name}: the {what} of its images, {quoted(values)}, must be three numbers{above}, one each for red, green and blue"
            )
    return tuple(map(float, mean)), tuple(map(float, std))
