r"""Corruptions: the same pairs with worse pictures, in five severities.

How much does a score fall when the pictures are noisy, blurred or badly compressed? Formulas and levels of the first six are those
of Hendrycks and Dietterich 2019, arXiv:1903.12261. They published three tables of levels, each for the size of its pictures:

    below 48 pixels    CIFAR-10-C         (32 pixels)
    48 to 127          Tiny ImageNet-C    (64)
    from 128 on        ImageNet-C         (224)

A blur is scaled with the picture: at 112 pixels its sigma is half of that at 224. Occlusion is not theirs; its levels are the same at
every size. What is random (noise, the place of an occlusion) depends on the seed, the corruption and the row alone: it is the same
in any batch, and one severity differs from the next in its strength only. JPEG depends on the version of Pillow's library, too.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from clipedu.data.pairs import Pairs
from clipedu.utils.errors import ClipeduError, quoted, unknown_name
from clipedu.utils.seeding import seeded

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SEVERITIES = (1, 2, 3, 4, 5)
REFERENCE_SIZES = (32, 64, 224)  # of the pictures for which the three tables of levels were made

Corrupt = Callable[[Tensor, float, torch.Generator], Tensor]


@dataclass(frozen=True)
class Corruption:
    """One way to make a picture worse.

    Attributes:
        description: one line.
        unit: what a level is.
        levels: five for each of `REFERENCE_SIZES`.
        apply: picture float [3, H, W] in 0..1, level, generator -> the same, which may leave 0..1.
        scaled: levels are in pixels of a picture of the reference size, and are scaled with the picture.
    """

    description: str
    unit: str
    levels: tuple[tuple[float, ...], ...]
    apply: Corrupt
    scaled: bool = False

    def level(self, severity: int, image_size: int) -> float:
        """Return the level of a severity, 1 to 5, for pictures of a size."""
        table = 0 if image_size < 48 else 1 if image_size < 128 else 2
        level = self.levels[table][severity - 1]
        return level * image_size / REFERENCE_SIZES[table] if self.scaled else level


def gaussian_noise(x: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Add normal noise of standard deviation `level` to x [3, H, W]."""
    return x + level * torch.randn(x.shape, generator=generator)


def blur(x: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Blur x [3, H, W] by a Gaussian, `level` pixels wide (sigma).

    The kernel ends at four sigma, and the border repeats outwards.
    """
    reach = int(4 * level + 0.5)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-(offsets**2) / (2 * level**2))
    kernel = (kernel / kernel.sum()).float()
    wide = pad(x[:, None], (reach,) * 4, mode="replicate")
    return conv2d(conv2d(wide, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[:, 0]


def brightness(x: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Raise the V of HSV of x [3, H, W] by `level`, at most to 1.

    Hue and saturation stay, so all three channels are multiplied by the same; black becomes grey.
    """
    value = x.amax(0, keepdim=True)
    brighter = (value + level).clamp(max=1)
    return torch.where(value > 0, x * brighter / value.clamp(min=1e-6), brighter)


def contrast(x: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Leave `level` of the contrast of x [3, H, W] around channel means."""
    mean = x.mean((1, 2), keepdim=True)
    return (x - mean) * level + mean


def jpeg(x: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Compress x [3, H, W] as JPEG of quality `level`, 1 to 95."""
    from PIL import Image

    file = io.BytesIO()
    _image(x).save(file, "JPEG", quality=int(level))
    with Image.open(file) as image:
        return _tensor(image)


def pixelation(x: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Shrink x [3, H, W] to `level` of its size, and enlarge it again."""
    from PIL import Image

    image = _image(x)
    small = image.resize([max(1, int(side * level)) for side in image.size], Image.Resampling.BOX)
    return _tensor(small.resize(image.size, Image.Resampling.BOX))


def occlusion(x: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Cover `level` of the area of x [3, H, W] with a grey square.

    The square is inside the picture, at a random place.
    """
    height, width = x.shape[1:]
    side = min(height, width, round((level * height * width) ** 0.5))
    y, x0 = (
        int(share * (full - side + 1))
        for share, full in zip(torch.rand(2, generator=generator).tolist(), (height, width), strict=True)
    )
    covered = x.clone()
    covered[:, y : y + side, x0 : x0 + side] = 0.5
    return covered


CORRUPTIONS = {
    "gaussian_noise": Corruption(
        "independent normal noise in each pixel and channel",
        "standard deviation, of pixels in 0..1",
        ((0.04, 0.06, 0.08, 0.09, 0.10), (0.04, 0.08, 0.12, 0.15, 0.18), (0.08, 0.12, 0.18, 0.26, 0.38)),
        gaussian_noise,
    ),
    "blur": Corruption(
        "a Gaussian blur",
        "sigma, in pixels of a picture of the reference size",
        ((0.4, 0.6, 0.7, 0.8, 1.0), (0.5, 0.75, 1.0, 1.25, 1.5), (1.0, 2.0, 3.0, 4.0, 6.0)),
        blur,
        scaled=True,
    ),
    "brightness": Corruption(
        "too bright, with hue and saturation kept",
        "what is added to the V of HSV, 0..1",
        ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.3, 0.4, 0.5)),
        brightness,
    ),
    "contrast": Corruption(
        "less contrast, around the mean of each channel",
        "share of the contrast that is left",
        ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05), (0.4, 0.3, 0.2, 0.1, 0.05)),
        contrast,
    ),
    "jpeg": Corruption(
        "compressed as JPEG, colours at half the resolution",
        "quality, 1 to 95",
        ((80, 65, 58, 50, 40), (65, 58, 50, 40, 25), (25, 18, 15, 10, 7)),
        jpeg,
    ),
    "pixelation": Corruption(
        "shrunk and enlarged again, both by boxes",
        "share of height and width that is left",
        ((0.95, 0.9, 0.85, 0.75, 0.65), (0.9, 0.8, 0.7, 0.6, 0.5), (0.6, 0.5, 0.4, 0.3, 0.25)),
        pixelation,
    ),
    "occlusion": Corruption(
        "a grey square covers a part, at a random place",
        "share of the area that is covered",
        ((0.05, 0.1, 0.2, 0.3, 0.4),) * 3,
        occlusion,
    ),
}
"""All corruptions by name: `CORRUPTIONS["blur"].description`, `.unit`, `.levels`."""


class Corrupted(Pairs):
    """A set of pairs with corrupted pictures, made each time they are read.

    Captions, labels, class names and templates are those of the set. See `corrupted` for the arguments.

    Attributes:
        whole: the set.
        corruption, severity, seed: as given.
        level: what the severity means for its pictures, in the `unit` of the corruption.
    """

    def __init__(self, whole: Pairs, corruption: str, severity: int = 3, seed: int = 0):
        if not isinstance(corruption, str) or corruption not in CORRUPTIONS:
            raise unknown_name("corruption", corruption, CORRUPTIONS)
        found = CORRUPTIONS[corruption]
        if isinstance(severity, bool) or severity not in SEVERITIES:
            raise ClipeduError(f"the severity of a corruption is 1 (slight) to 5 (strong), got {quoted(severity)}")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ClipeduError(f"the seed of a corruption must be a whole number >= 0, got {quoted(seed)}")
        self.whole, self.corruption, self.severity, self.seed = whole, corruption, severity, seed
        self.level = found.level(severity, whole.image_size)
        self._apply = found.apply
        self.name, self.split, self.image_size = f"{whole.name}-{corruption}-{severity}", whole.split, whole.image_size
        self.labels, self.class_names = whole.labels, whole.class_names
        self.named_by, self.templates = whole.named_by, whole.templates
        self.skipped, self.left_out, self.cache = whole.skipped, whole.left_out, whole.cache

    def __len__(self) -> int:
        return len(self.whole)

    def pixels(self, index: Tensor) -> Tensor:
        """Return corrupted images of rows: uint8 [B, 3, H, W], on the CPU."""
        clean = self.whole.pixels(index)
        worse = torch.empty_like(clean)
        for place, row in enumerate(index.tolist()):
            generator = seeded(self.seed, zlib.crc32(self.corruption.encode()), row)
            picture = self._apply(clean[place].float() / 255, self.level, generator)
            worse[place] = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
        return worse

    def captions(self, row: int) -> list[str]:
        """Return all captions of a row."""
        return self.whole.captions(row)


def corrupted(pairs: Pairs, corruption: str, severity: int = 3, *, seed: int = 0) -> Corrupted:
    """Return a set with the same pairs and corrupted pictures.

    >>> from clipedu import load_pairs
    >>> noisy = corrupted(load_pairs("scenes", "val", size=8), "gaussian_noise", severity=5)
    >>> noisy.name, len(noisy), noisy.level
    ('scenes-gaussian_noise-5', 8, 0.1)

    Args:
        pairs: N rows; they are read each time, and not changed.
        corruption: a key of `CORRUPTIONS`.
        severity: 1 (slight) to 5 (strong).
        seed: of noise and places.
    Raises:
        ClipeduError: an unknown corruption, or a severity or seed out of range.
    """
    return Corrupted(pairs, corruption, severity, seed)


def _image(x: Tensor) -> Picture:
    from PIL import Image

    return Image.fromarray((x.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def _tensor(image: Picture) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
