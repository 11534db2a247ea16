"""Decode an image file to pixels: uint8 [3, S, S], RGB, upright.

Two ways to make an image square:

- "crop": scale the shorter side to S and take the middle, the usual choice in training and for ImageNet.
- "squash": scale both sides to S; nothing is lost, shapes change. The course's choice for COCO.

Both are bicubic with antialiasing. A large JPEG is first decoded at 1/2, 1/4 or 1/8 of its size, but never below 2 S, which
is much faster with hardly a visible difference.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

RESIZE = ("crop", "squash")
MAX_PIXELS = 90_000_000  # of a picture as stored: far larger than any photograph, far smaller than a decompression bomb


class BadImage(ValueError):
    """The bytes are no image that can be decoded. The message says why."""


def decode(data: bytes, size: int, resize: str) -> np.ndarray:
    """Decode a JPEG, PNG or WebP to uint8 [3, size, size].

    The EXIF orientation is applied. An alpha channel is dropped, grey and CMYK become RGB; of an animation the first
    frame is taken.

    Args:
        data: the bytes of the file.
        size: height and width of the result, in pixels.
        resize: "crop" or "squash".
    Raises:
        BadImage: truncated, undecodable or more than `MAX_PIXELS`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImage(f"image is too large: {image.width} x {image.height} pixels")
            image.draft(None, (2 * size, 2 * size))
            image.load()
            return np.ascontiguousarray(np.asarray(_square(_upright(image), size, resize)).transpose(2, 0, 1))
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage("image is not a JPEG, PNG or WebP") from None
    except Image.DecompressionBombError:
        raise BadImage("image is too large") from None
    except Exception as error:  # noqa: BLE001  a damaged image can fail in many ways inside a decoder
        raise BadImage(f"image cannot be decoded ({type(error).__name__}: {error})"[:120]) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's warnings (odd EXIF, large images), in all threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _upright(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, whose high byte is what a screen shows
        image = Image.fromarray((np.asarray(image) // 256).astype(np.uint8))
    elif image.mode == "P":
        image = image.convert("RGBA")
    with suppress(Exception):  # a damaged EXIF block is no reason to lose the picture
        image = ImageOps.exif_transpose(image)
    return image.convert("RGB")


def _square(image: Image.Image, size: int, resize: str) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box if resize == "crop" else None)
