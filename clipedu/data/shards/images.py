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
SEEN = 16  # of 255: a picture with less contrast shows nothing
MAX_PIXELS = 90_000_000  # of a picture as stored: far larger than any photograph, far smaller than a decompression bomb


class BadImage(ValueError):
    """The bytes are no image that can be decoded. The message says why."""


def decode(data: bytes, size: int, resize: str) -> np.ndarray:
    """Decode a JPEG, PNG or WebP to uint8 [3, size, size].

    The EXIF orientation is applied; grey and CMYK become RGB; of an animation the first frame is taken. A transparent
    picture is laid on white, or on black where nothing would be seen on white (open_clip and torchvision drop the alpha
    channel, `convert("RGB")`: a black drawing on a transparent ground is then all black). Of 16-bit grey the high byte is
    taken, unless its values are those of 8 or 12 bits.

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
            return np.ascontiguousarray(np.asarray(_square(_opaque(_upright(image)), size, resize)).transpose(2, 0, 1))
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
    with suppress(Exception):  # a damaged EXIF block is no reason to lose the picture
        return ImageOps.exif_transpose(image)
    return image


def _opaque(image: Image.Image) -> Image.Image:
    """Convert to RGB; a transparent picture gets a ground."""
    clear = image.info.get("transparency")  # of a PNG: the colour, or the entry of the palette, that is transparent
    if image.mode.startswith("I"):
        image = _eight_bits(image, clear)
    elif image.mode not in ("RGBA", "LA", "PA") and clear is None:
        return image.convert("RGB")
    image = image.convert("RGBA")
    alpha = np.asarray(image.getchannel("A"))
    if alpha.min() == 255 or alpha.max() < SEEN:  # a picture that is transparent everywhere keeps its colours
        return image.convert("RGB")
    on_white = _on(image, "white")
    if _contrast(on_white) < SEEN and _contrast(on_black := _on(image, "black")) >= SEEN:
        return on_black
    return on_white


def _eight_bits(image: Image.Image, clear: object) -> Image.Image:
    """Convert 16-bit grey to 8 bits: what a screen shows is the high byte.

    8 or 12 bits stored in 16 would be black then, so they are told by their highest value.
    """
    values = np.asarray(image)
    highest = int(values.max())
    grey = Image.fromarray((values >> (0 if highest < 2**8 else 4 if highest < 2**12 else 8)).astype(np.uint8))
    if isinstance(clear, int):
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _on(image: Image.Image, ground: str) -> Image.Image:
    below = Image.new("RGBA", image.size, ground)
    below.alpha_composite(image)
    return below.convert("RGB")


def _contrast(image: Image.Image) -> int:
    """Return the largest difference within a channel, 0 to 255."""
    return int(np.ptp(np.asarray(image), axis=(0, 1)).max())


def _square(image: Image.Image, size: int, resize: str) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box if resize == "crop" else None)
