"""Augmentation: random changes of a batch of images, on its device.

    crop          a random rectangle (area 0.5 to 1, aspect 3/4 to 4/3) is stretched to the image's size
    flip          left and right are swapped with probability 1/2; captions stay, also those that say "left"
    randaugment   two of ten operations, each drawn anew for each image and done with probability 1/2

RandAugment (Cubuk et al. 2019, arXiv:1909.13719) replaces a search for the best policy by two numbers: how many operations,
and how strong. The operations, strengths (level 7 of 10) and probability are those of the course that clipedu follows.

The draws come from (seed, step) alone, in the order of the whole batch, on the CPU: so they are the same on any device, in a
run that was resumed, and for the rows that one of several processes holds (`first`, `of`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from clipedu.utils.errors import ClipeduError, unknown_name
from clipedu.utils.seeding import seeded

AUGMENTATIONS = ("none", "crop", "crop-flip", "crop-flip-randaugment")

COUNT, PROBABILITY = 2, 0.5  # operations a picture, and how probably each of them is done
ENHANCE = 1.36  # brightness and sharpness, 1 changes nothing
SHEAR = 0.21  # pixels sideways a pixel down
SHIFT = 7 / 256  # of the picture's side
ROTATE = 21.0  # degrees
GREY = 128.0  # fills what was outside the picture
# On a CPU large tensors take fresh memory each time; a few pictures at once reuse it, which is nearly twice as fast.
CHUNK_PIXELS_CPU = 1 << 18


def augment(pixels: Tensor, how: str, *, seed: int, step: int, first: int = 0, of: int | None = None) -> Tensor:
    """Change the images of one step at random, each with draws of its own.

    Args:
        pixels: uint8 or float [B, 3, H, W] in 0..255.
        how: one of `AUGMENTATIONS`.
        seed, step: what the draws come from.
        first, of: the images are number `first`, `first + 1`, ... of a batch of `of`, whose others are on other processes
            (see `clipedu.data.batches.share`). By default they are the whole batch.
    Returns:
        float32 [B, 3, H, W] in 0..255, or `pixels` itself for "none".
    Raises:
        ClipeduError: an unknown `how`.
    """
    if how not in AUGMENTATIONS:
        raise unknown_name("augment", how, AUGMENTATIONS)
    if how == "none":
        return pixels
    of = len(pixels) if of is None else of
    few = max(1, CHUNK_PIXELS_CPU // (pixels.shape[2] * pixels.shape[3]))
    if pixels.device.type == "cpu" and len(pixels) > few:
        changed = torch.empty(pixels.shape)
        for start in range(0, len(pixels), few):
            piece = pixels[start : start + few]
            changed[start : start + few] = augment(piece, how, seed=seed, step=step, first=first + start, of=of)
        return changed
    cropped = random_crop(pixels, first, of, seed=seed, step=step, flip="flip" in how)
    return rand_augment(cropped, first, of, seed=seed, step=step) if how.endswith("randaugment") else cropped


def random_crop(pixels: Tensor, first: int, of: int, *, seed: int, step: int, flip: bool) -> Tensor:
    """Crop random rectangles and resize them to the image's size, bilinear.

    The area is 0.5 to 1 of the image, the aspect 3/4 to 4/3.

    Where area and aspect together give more than the image's width, all of it is taken.

    Args:
        pixels: uint8 or float [B, 3, H, W].
        first, of, seed, step: see `augment`.
        flip: mirror with probability 1/2.
    Returns:
        float32 [B, 3, H, W].
    """
    u = torch.rand(of, 5, generator=seeded(seed, step, 2))[first : first + len(pixels)]
    area, aspect = 0.5 + 0.5 * u[:, 0], torch.exp((2 * u[:, 1] - 1) * torch.log(torch.tensor(4 / 3)))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    mirror = torch.where(u[:, 4] < 0.5, -1.0, 1.0) if flip else torch.ones(len(u))
    x = _line(pixels.shape[3]) * (width * mirror)[:, None] + ((2 * u[:, 2] - 1) * (1 - width))[:, None]
    y = _line(pixels.shape[2]) * height[:, None] + ((2 * u[:, 3] - 1) * (1 - height))[:, None]
    x, y = x.to(pixels.device)[:, None, :], y.to(pixels.device)[:, :, None]
    grid = torch.stack(torch.broadcast_tensors(x, y), 3)
    return F.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _line(count: int) -> Tensor:
    """Return the centres of `count` pixels on a side from -1 to 1 (CPU)."""
    return torch.linspace(-1, 1, count) * (count - 1) / count


def rand_augment(pixels: Tensor, first: int, of: int, *, seed: int, step: int) -> Tensor:
    """Apply two rounds of RandAugment.

    In each round every image draws one of `OPERATIONS` and a sign; the operation is done with probability 1/2.

    Args:
        pixels: uint8 or float [B, 3, H, W] in 0..255; not changed.
        first, of, seed, step: see `augment`.
    Returns:
        float32 [B, 3, H, W] in 0..255.
    """
    own, noise = slice(first, first + len(pixels)), seeded(seed, step, 3)
    drawn = torch.randint(len(OPERATIONS), (of, COUNT), generator=noise)[own]
    u = torch.rand(of, COUNT, 2, generator=noise)[own]
    done, sign = u[..., 0] < PROBABILITY, torch.where(u[..., 1] < 0.5, -1.0, 1.0)
    pixels = pixels.float().clone()
    for turn in range(COUNT):
        for number, operation in enumerate(OPERATIONS.values()):
            rows = ((drawn[:, turn] == number) & done[:, turn]).nonzero()[:, 0]
            if len(rows) and operation is not identity:
                there = rows.to(pixels.device)
                pixels[there] = operation(pixels[there], sign[rows, turn])
    return pixels


def operate(name: str, pixels: Tensor, sign: float = 1.0) -> Tensor:
    """Apply one of `OPERATIONS` to all images.

    Args:
        name: of the operation.
        pixels: uint8 or float [B, 3, H, W] in 0..255.
        sign: 1, or -1 for the opposite direction of a movement; colours don't use it.
    Returns:
        float32 [B, 3, H, W] in 0..255.
    Raises:
        ClipeduError: an unknown operation, or a sign other than 1 and -1.
    """
    if name not in OPERATIONS:
        raise unknown_name("operation", name, OPERATIONS)
    if sign not in (1, -1):
        raise ClipeduError(f"sign={sign} cannot be used: give 1 or -1")
    return OPERATIONS[name](pixels.float(), torch.full((len(pixels),), float(sign)))


# The operations: float pixels [B, 3, H, W] in 0..255 and signs [B] (on the CPU, not used by colours) to pixels.


def identity(pixels: Tensor, sign: Tensor) -> Tensor:
    """Return the pixels as they are."""
    return pixels


def autocontrast(pixels: Tensor, sign: Tensor) -> Tensor:
    """Stretch each channel to 0..255; a constant one stays.

    The two are rounded to integers, as in an image file: else the rounding errors of a crop would be stretched too.
    """
    low, high = pixels.amin((2, 3), keepdim=True).round(), pixels.amax((2, 3), keepdim=True).round()
    stretched = (pixels - low) * (255 / (high - low).clamp(min=1))
    return torch.where(high > low, stretched, pixels).clamp(0, 255)


def equalize(pixels: Tensor, sign: Tensor) -> Tensor:
    """Equalize the histogram of each channel, as `PIL.ImageOps.equalize`."""
    count, channels, height, width = pixels.shape
    value = pixels.round().long().view(count * channels, -1)
    shift = 256 * torch.arange(len(value), device=pixels.device)[:, None]
    histogram = torch.bincount((value + shift).flatten(), minlength=256 * len(value)).view(-1, 256)
    last = histogram.gather(1, value.amax(1, keepdim=True))  # how often the brightest value is there
    step = (height * width - last) // 255
    below = histogram.cumsum(1) - histogram
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=255)
    mapped = table.gather(1, value).to(pixels.dtype)
    return torch.where(step > 0, mapped, pixels.view(len(value), -1)).view_as(pixels)


def brightness(pixels: Tensor, sign: Tensor) -> Tensor:
    """Multiply by `ENHANCE`."""
    return (ENHANCE * pixels).clamp(0, 255)


def sharpness(pixels: Tensor, sign: Tensor) -> Tensor:
    """Move away from a blurred copy (3 x 3, weight 5 in the middle).

    The outermost pixels stay as they are.
    """
    kernel = torch.ones(3, 3, device=pixels.device)
    kernel[1, 1] = 5
    inner = F.conv2d(pixels, (kernel / 13).expand(3, 1, 3, 3), groups=3)
    blurred = pixels.clone()
    blurred[:, :, 1:-1, 1:-1] = inner
    return (blurred + ENHANCE * (pixels - blurred)).clamp(0, 255)


def _moved(place: Callable[[Tensor, float], tuple]) -> Callable[[Tensor, Tensor], Tensor]:
    """Make an affine operation of a function that gives its matrix.

    `place(sign, W / H)` gives (xx, xy, x0, yx, yy, y0).

    The pixel at (x, y) comes from (xx x + xy y + x0, yx x + yy y + y0); both sides run from -1 to 1.
    """

    def operation(pixels: Tensor, sign: Tensor) -> Tensor:
        height, width = pixels.shape[2:]
        entries = [torch.as_tensor(entry).expand(len(sign)) for entry in place(sign, width / height)]
        xx, xy, x0, yx, yy, y0 = torch.stack(entries).to(pixels)[:, :, None, None]
        x, y = _line(width).to(pixels), _line(height).to(pixels)[:, None]
        grid = torch.stack([xx * x + (xy * y + x0), yx * x + (yy * y + y0)], 3)
        return F.grid_sample(pixels - GREY, grid, padding_mode="zeros", align_corners=False).add_(GREY)

    return operation


def _rotated(sign: Tensor, ratio: float) -> tuple:
    cos, sin = math.cos(math.radians(ROTATE)), math.sin(math.radians(ROTATE))
    return cos, -sin * sign / ratio, 0.0, sin * sign * ratio, cos, 0.0


shear_x = _moved(lambda sign, ratio: (1.0, SHEAR * sign / ratio, SHEAR * sign / ratio, 0.0, 1.0, 0.0))  # top edge stays
shear_y = _moved(
    lambda sign, ratio: (1.0, 0.0, 0.0, SHEAR * sign * ratio, 1.0, SHEAR * sign * ratio)
)  # left edge stays
translate_x = _moved(lambda sign, ratio: (1.0, 0.0, 2 * SHIFT * sign, 0.0, 1.0, 0.0))
translate_y = _moved(lambda sign, ratio: (1.0, 0.0, 0.0, 0.0, 1.0, 2 * SHIFT * sign))
rotate = _moved(_rotated)  # about the middle

OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": identity,
    "autocontrast": autocontrast,
    "equalize": equalize,
    "brightness": brightness,
    "sharpness": sharpness,
    "shear-x": shear_x,
    "shear-y": shear_y,
    "translate-x": translate_x,
    "translate-y": translate_y,
    "rotate": rotate,
}
