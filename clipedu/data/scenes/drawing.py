"""Draw scenes: from attributes to pixels, many at once, on any device.

Conventions:
- The image is the unit square: x runs right, y runs down, (0, 0) is the top left corner. Lengths are fractions of its
  side, so that one scene can be drawn at any `image_size`.
- A shape is a function of x and y in its own frame (centre 0, outer radius about 1, upright). It returns a signed
  distance: negative inside, zero on the outline, positive outside. "Or" is a minimum, "and" is a maximum.
- An object covers a pixel by clamp(1/2 - distance in pixels, 0, 1): edges are one pixel wide and smooth (anti-aliased).
- Colours are RGB from 0 to 255. Backgrounds are nearly grey and neither black nor white, so that each of the ten colours
  shows on each of them.
- Noise is a hash of (scene, pixel), not a draw from a generator: it does not depend on the batch or on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from clipedu.data.scenes.attributes import Attributes

REACH = 1.1  # no shape leaves a disc of this many radii

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "yellow": (250, 225, 40),
    "green": (35, 150, 55),
    "cyan": (60, 225, 235),
    "blue": (35, 70, 220),
    "purple": (135, 40, 175),
    "pink": (255, 120, 195),
    "brown": (145, 85, 30),
    "black": (12, 12, 12),
    "white": (250, 250, 250),
}

SIZES: dict[str, float] = {"small": 0.105, "medium": 0.155, "large": 0.215}  # outer radius


def circle(x: Tensor, y: Tensor) -> Tensor:
    return torch.hypot(x, y) - 0.92


def ring(x: Tensor, y: Tensor) -> Tensor:
    return (torch.hypot(x, y) - 0.75).abs() - 0.25


def square(x: Tensor, y: Tensor) -> Tensor:
    return torch.maximum(x.abs(), y.abs()) - 0.77


def triangle(x: Tensor, y: Tensor) -> Tensor:
    """Draw an equilateral triangle, one corner up.

    It is three half-planes at one distance.
    """
    return torch.maximum(y, math.sqrt(0.75) * x.abs() - 0.5 * y) - 0.55


def diamond(x: Tensor, y: Tensor) -> Tensor:
    """Draw a rhombus, taller than wide, so that it is no turned square."""
    half_width, half_height = 0.62, 1.1
    return (x.abs() * half_height + y.abs() * half_width - half_width * half_height) / math.hypot(
        half_width, half_height
    )


def star(x: Tensor, y: Tensor) -> Tensor:
    """Draw a star of five points: ten edges, folded onto one tenth of a turn."""
    tenth, tip, dent = math.pi / 5, 1.1, 0.48
    turn = torch.atan2(x, -y) + tenth
    fold = (torch.remainder(turn, 2 * tenth) - tenth).abs()
    radius = torch.hypot(x, y)
    across, along = radius * fold.sin(), radius * fold.cos()  # the tip is at (0, tip)
    edge_x, edge_y = dent * math.sin(tenth), dent * math.cos(tenth) - tip
    return ((along - tip) * edge_x - across * edge_y) / math.hypot(edge_x, edge_y)


def cross(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.abs(), y.abs()
    return torch.minimum(torch.maximum(x - 1.0, y - 0.3), torch.maximum(x - 0.3, y - 1.0))


def heart(x: Tensor, y: Tensor) -> Tensor:
    """Draw a square on its corner, with a disc on both upper edges."""
    half = 0.86
    x, y = x.abs(), y - 0.2
    return torch.minimum(
        (x + y.abs() - half) / math.sqrt(2), torch.hypot(x - half / 2, y + half / 2) - half / math.sqrt(2)
    )


def crescent(x: Tensor, y: Tensor) -> Tensor:
    """Draw a disc without a second disc, open to the right."""
    x = x - 0.12
    return torch.maximum(torch.hypot(x, y) - 1.0, 0.8 - torch.hypot(x - 0.5, y))


def arrow(x: Tensor, y: Tensor) -> Tensor:
    """Draw an arrow pointing up: a triangular head on a shaft."""
    x = x.abs()
    head = torch.maximum(y, (x * 1.05 - (y + 1.05) * 0.85) / math.hypot(1.05, 0.85))
    return torch.minimum(head, torch.maximum(x - 0.27, (y - 0.35).abs() - 0.65))


SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": circle,
    "ring": ring,
    "square": square,
    "triangle": triangle,
    "diamond": diamond,
    "star": star,
    "cross": cross,
    "heart": heart,
    "crescent": crescent,
    "arrow": arrow,
}


def striped(u: Tensor, v: Tensor, crisp: float) -> Tensor:
    """Draw stripes: a pattern [N, H, W] from 0 (darker tone) to 1 (lighter).

    Args:
        u, v: places [N, H, W] along and across the direction of the pattern, in units of the image's side.
        crisp: the steepness of an edge.
    """
    return (0.5 + crisp * torch.sin(8 * math.pi * u)).clamp_(0, 1)


def checked(u: Tensor, v: Tensor, crisp: float) -> Tensor:
    """Draw a chequered pattern. Args as for `striped`."""
    return (0.5 + crisp * torch.sin(8 * math.pi * u) * torch.sin(8 * math.pi * v)).clamp_(0, 1)


def gradient(u: Tensor, v: Tensor, crisp: float) -> Tensor:
    """Draw a ramp along u. Args as for `striped`; `crisp` is not used."""
    return (0.5 + u).clamp_(0, 1)


# name -> pattern (None is plain), darker tone, lighter tone
BACKGROUNDS: dict[str, tuple[Callable[[Tensor, Tensor, float], Tensor] | None, float, float]] = {
    "light": (None, 180, 180),
    "dark": (None, 75, 75),
    "striped": (striped, 105, 155),
    "checked": (checked, 105, 155),
    "gradient": (gradient, 75, 185),
}


def draw(scenes: Attributes, image_size: int, device: torch.device | str | None = None) -> Tensor:
    """Draw scenes as pixels.

    They are drawn in chunks that fit into the processor's cache; the pixels don't depend on it.

    Args:
        scenes: N scenes.
        image_size: height and width, in pixels.
        device: where to draw; None is the CPU.
    Returns:
        uint8 [N, 3, image_size, image_size] on `device`.
    """
    piece = max(1, 2**18 // image_size**2)
    pictures = torch.empty(len(scenes), 3, image_size, image_size, dtype=torch.uint8, device=device)
    for start in range(0, len(scenes), piece):
        rows = slice(start, start + piece)
        pictures[rows] = _draw(scenes[rows].to(pictures.device), image_size)
    return pictures


def _draw(scenes: Attributes, image_size: int) -> Tensor:
    axis = (torch.arange(image_size, device=scenes.count.device) + 0.5) / image_size
    canvas = _background(scenes, axis)
    for slot in (0, 1):
        torch.lerp(canvas, scenes.rgb[:, slot, :, None, None], cover(scenes, slot, axis)[:, None], out=canvas)
    _add_noise(canvas, scenes)
    return canvas.add_(0.5).clamp_(0, 255).to(torch.uint8)


def cover(scenes: Attributes, slot: int, axis: Tensor) -> Tensor:
    """Compute how much of each pixel an object covers: float [N, H, W].

    It is from 0 to 1, and 0 everywhere in a scene without this object.

    Args:
        scenes: N scenes.
        slot: 0 for the first object, 1 for the second.
        axis: float [H], the pixels' centres along x and along y.
    """
    mask = torch.zeros(len(scenes), len(axis), len(axis), device=axis.device)
    there = scenes.exists()[:, slot]
    for number, signed_distance in enumerate(SHAPES.values()):
        rows = (there & (scenes.shape[:, slot] == number)).nonzero().squeeze(1)
        if len(rows) > 0:
            radius = scenes.radius[rows, slot]
            x, y = _frame(axis, scenes.centre[rows, slot], scenes.angle[rows, slot], radius)
            in_pixels = signed_distance(x, y).mul_((radius * len(axis))[:, None, None])
            mask[rows] = in_pixels.neg_().add_(0.5).clamp_(0, 1)
    return mask


def _frame(axis: Tensor, centre: Tensor, angle: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the pixels' coordinates in rotated frames: two of [N, H, W].

    The frames have this centre [N, 2], angle [N] and unit of length [N].
    """
    cos, sin = (angle.cos() / unit)[:, None], (angle.sin() / unit)[:, None]
    x, y = axis - centre[:, :1], axis - centre[:, 1:]  # [N, W], [N, H]
    return (cos * x)[:, None, :] + (sin * y)[:, :, None], (cos * y)[:, :, None] - (sin * x)[:, None, :]


def _background(scenes: Attributes, axis: Tensor) -> Tensor:
    """Draw the backgrounds: float [N, 3, H, W] from 0 to 255."""
    pattern = torch.zeros(len(scenes), len(axis), len(axis), device=axis.device)
    for number, (function, _, _) in enumerate(BACKGROUNDS.values()):
        rows = (scenes.background == number).nonzero().squeeze(1)
        if function is not None and len(rows) > 0:
            angle = scenes.pattern_angle[rows]
            u, v = _frame(axis, scenes.pattern_centre[rows], angle, torch.ones_like(angle))
            pattern[rows] = function(u, v, len(axis) / 24)
    darker, lighter = scenes.tones[:, 0, :, None, None], scenes.tones[:, 1, :, None, None]
    return torch.lerp(darker, lighter, pattern[:, None])


def _add_noise(canvas: Tensor, scenes: Attributes) -> None:
    """Add uniform noise in [-amplitude, amplitude], in place.

    It differs for each scene, pixel and channel.

    One 32-bit hash a pixel gives eight bits to each channel: a counter, spread by two rounds of multiply and
    xor-shift ("lowbias32", C. Wellons, Prospecting for hash functions, 2018).
    """
    height, width = canvas.shape[2:]
    pixel = torch.arange(height * width, dtype=torch.int32, device=canvas.device).view(height, width)
    bits = scenes.noise_key[:, None, None] + pixel * -1640531535  # 2**32 / golden ratio, as int32
    for shift, factor in ((16, 0x7FEB352D), (15, -0x7B935975)):
        bits ^= (bits >> shift) & (2 ** (32 - shift) - 1)
        bits *= factor
    bits ^= (bits >> 16) & 0xFFFF
    scale = (scenes.noise / 127.5)[:, None, None]
    for channel in range(3):
        level = ((bits >> 8 * channel) & 255).to(canvas.dtype).sub_(127.5)
        canvas[:, channel].addcmul_(level, scale)
