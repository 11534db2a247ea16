"""Find letterboxes: pictures with plain borders on two opposite sides.

img2dataset makes pictures square with borders by default (resize_mode="border", white), and frames of films have black ones.
A model sees them in every picture of that shape, and random crops don't remove them.

A border is a run of rows of one colour from the edge on. A picture has a letterbox if both borders have the same colour and
width, and end at a straight line: a white ground behind a thing ends raggedly, and so does the sky. Its
colour fills hardly any row between the borders: else they are the first and the last of many stripes.
"""

from __future__ import annotations

import numpy as np

NEAR = 14  # of 255 in each channel: differences within one colour after JPEG
WHOLE = 0.99  # share of a row's pixels that have the colour, inside a border
INSIDE = 0.5  # share beyond the line, at most
NARROW = 0.03  # of the side: the least width of a border
STRIPE, STRIPES = 0.8, 0.1  # rows between the borders with such a share of the colour, and how many at most: stripes
SOFT = 2  # rows over which resizing may spread the line


def has_letterbox(picture: np.ndarray) -> bool:
    """Check whether a picture has borders above and below, or at both sides.

    Args:
        picture: uint8 [3, H, W].
    """
    return _between(picture) or _between(picture.transpose(0, 2, 1))


def is_plain(picture: np.ndarray) -> bool:
    """Check whether a picture, uint8 [3, H, W], shows nothing but one colour."""
    flat = picture.reshape(3, -1)
    return int((flat.max(1) - flat.min(1)).max()) < NEAR


def _between(picture: np.ndarray) -> bool:
    """Check for borders above and below."""
    height = picture.shape[1]
    least = max(1, round(NARROW * height))
    edges = np.concatenate([picture[:, 0], picture[:, -1]], 1)
    colour = np.median(edges, 1)[:, None, None]
    if (np.abs(edges - colour[:, 0]).max(0) <= NEAR).mean() < WHOLE:
        return False
    share = (np.abs(picture - colour).max(0) <= NEAR).mean(1)
    inner = np.flatnonzero(share < WHOLE)
    if not len(inner):
        return False
    above, below = int(inner[0]), height - 1 - int(inner[-1])
    if min(above, below) < least or abs(above - below) > least:
        return False
    top, bottom = share[above : above + 1 + SOFT], share[height - below - 1 - SOFT : height - below]
    stripes = (share[above : height - below] >= STRIPE).mean()
    return bool(max(top.min(), bottom.min()) <= INSIDE and stripes <= STRIPES)
