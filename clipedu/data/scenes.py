"""Scenes: captioned pictures that need no download, drawn when they are asked for.

One or two objects (10 shapes x 10 colours x 3 sizes) stand somewhere on one of five backgrounds, under some noise. A scene
is a pure function of (seed, split, row): each attribute comes from a hash of these and of its own name, not from a
generator that others have drawn from. So scene 17 is the same in a set of 100 and in one of 100,000, and in any batch.
Three splits:

- train: row = number of the scene. Five captions a row, from generic to specific, most of them specific.
- val: the first scenes of their stream of which no two fit one most specific description; five paraphrases of it a row.
  So each caption is true of exactly one image, and retrieval has one right answer.
- zeroshot: one object a scene; the class is shape x colour (100 classes, equally often), size, place, background and noise
  vary.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from clipedu.data import language
from clipedu.data.draw import BACKGROUNDS, COLOURS, REACH, SHAPES, SIZES, draw
from clipedu.data.language import Dice, Meaning
from clipedu.data.pairs import Pairs
from clipedu.registry import ClipeduError, unknown_name

VERSION = 1  # of the generator: raise it when a scene or a caption comes out differently
SPLITS = {"train": 16_000, "val": 1_000, "zeroshot": 1_000}  # name -> default size
MAX_VAL = 50_000
CAPTIONS = 5  # a row
TRAIN_LEVELS = ((5,), (5,), (5, 4), (4, 3), (0, 1, 2, 2, 3, 3))  # of a chain, from which each of them is picked
CACHE_BYTES = 2**30

_GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as int64


def _mix(x: Tensor) -> Tensor:
    """Spread each int64 over all 64 bits (the finalizer of SplitMix64, Steele et al. 2014); products wrap around."""
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        x = (x ^ ((x >> shift) & (2 ** (64 - shift) - 1))) * factor
    return x ^ ((x >> 31) & (2**33 - 1))


class _Hash:
    """Random attributes of scenes, each addressed by its name instead of drawn after the one before it."""

    def __init__(self, seed: int, split: str, rows: Tensor):
        stream = torch.tensor([(seed * len(SPLITS) + list(SPLITS).index(split)) % 2**62])
        self.key = _mix(_mix(stream * _GOLDEN + 1) + rows * _GOLDEN)  # int64 [N]

    def bits(self, name: str) -> Tensor:
        """int64 [N] from 0 to 2**62 - 1."""
        return _mix(self.key ^ (zlib.crc32(name.encode()) * 0x2545F491)) & (2**62 - 1)

    def below(self, n: int, name: str) -> Tensor:
        """int64 [N] from 0 to n - 1, equally often."""
        return ((self.bits(name) & (2**31 - 1)) * n) >> 31

    def uniform(self, low: float, high: float, name: str) -> Tensor:
        """float [N] from low to high."""
        return low + (high - low) * ((self.bits(name) & (2**24 - 1)).float() / 2**24)

    def uniform_rgb(self, low: float, high: float, name: str) -> Tensor:
        """float [N, 3] from low to high, one for each channel."""
        return torch.stack([self.uniform(low, high, f"{name} {channel}") for channel in "rgb"], 1)


@dataclass(frozen=True)
class Attributes:
    """Everything that is known of N scenes. Index with rows, a slice or a mask to get some of them.

    Each scene has room for two objects; `exists()` says which are there. Lengths are fractions of the picture's side.
    """

    count: Tensor  # int64 [N]: 1 or 2 objects
    shape: Tensor  # int64 [N, 2], index into SHAPES
    colour: Tensor  # int64 [N, 2], index into COLOURS
    size: Tensor  # int64 [N, 2], index into SIZES
    relation: Tensor  # int64 [N], index into RELATIONS: the first object's to the second; -1 where there is one object
    place: Tensor  # int64 [N, 2], index into PLACES: where the object's centre is
    background: Tensor  # int64 [N], index into BACKGROUNDS
    centre: Tensor  # float [N, 2, 2], x and y of each object
    radius: Tensor  # float [N, 2]
    angle: Tensor  # float [N, 2], in radians, clockwise
    rgb: Tensor  # float [N, 2, 3], 0 to 255
    tones: Tensor  # float [N, 2, 3], darker and lighter colour of the background, 0 to 255
    pattern_centre: Tensor  # float [N, 2]
    pattern_angle: Tensor  # float [N], in radians
    noise: Tensor  # float [N], amplitude in levels of 255
    noise_key: Tensor  # int32 [N]

    def __len__(self) -> int:
        return len(self.count)

    def __getitem__(self, rows: Tensor | slice) -> Attributes:
        return Attributes(*(getattr(self, field.name)[rows] for field in fields(self)))

    def to(self, device: torch.device | str) -> Attributes:
        return Attributes(*(getattr(self, field.name).to(device) for field in fields(self)))

    def exists(self) -> Tensor:
        """bool [N, 2]: is there a first, a second object?"""
        return torch.stack([self.count > 0, self.count > 1], 1)


def sample(seed: int, split: str, rows: Tensor) -> Attributes:
    """What is in the scenes number `rows` (int64 [N], any non-negative numbers) of the stream of `split`."""
    h = _Hash(seed, split, rows)
    count = torch.where(h.below(5, "count") < 2, 1, 2)
    shape, colour = h.below(len(SHAPES), "shape"), h.below(len(COLOURS), "colour")
    if split == "zeroshot":
        label = rows * 37 % (len(SHAPES) * len(COLOURS))  # each class once in every 100 rows, in mixed order
        shape, colour = label // len(COLOURS), label % len(COLOURS)
        count = torch.ones_like(rows)
    # The second object differs from the first in shape and in colour, so that two words always tell which is meant.
    shape = torch.stack([shape, (shape + 1 + h.below(len(SHAPES) - 1, "other shape")) % len(SHAPES)], 1)
    colour = torch.stack([colour, (colour + 1 + h.below(len(COLOURS) - 1, "other colour")) % len(COLOURS)], 1)
    size = torch.stack([h.below(len(SIZES), "size"), h.below(len(SIZES), "other size")], 1)
    stretch = torch.stack([h.uniform(0.95, 1.05, "radius"), h.uniform(0.95, 1.05, "other radius")], 1)
    radius = torch.tensor(list(SIZES.values()))[size] * stretch
    relation = torch.where(count == 2, h.below(len(language.RELATIONS), "relation"), -1)
    centre = torch.where((count == 2)[:, None, None], _apart(h, relation, radius), _alone(h, radius))
    third = (centre >= 3 / 8).long() + (centre > 5 / 8).long()
    background = h.below(len(BACKGROUNDS), "background")
    tones = torch.tensor([pair for _, *pair in BACKGROUNDS.values()])[background]  # [N, 2]
    tint = h.uniform_rgb(-5, 5, "tint") + h.uniform(-8, 8, "tone")[:, None]
    return Attributes(
        count=count,
        shape=shape,
        colour=colour,
        size=size,
        relation=relation,
        place=third[..., 1] * 3 + third[..., 0],
        background=background,
        centre=centre,
        radius=radius,
        angle=torch.stack([h.uniform(-0.25, 0.25, "angle"), h.uniform(-0.25, 0.25, "other angle")], 1),
        rgb=torch.stack([_paint(h, colour[:, 0], "first"), _paint(h, colour[:, 1], "second")], 1),
        tones=tones[:, :, None] + tint[:, None, :],
        pattern_centre=torch.stack([h.uniform(0.375, 0.625, "pattern x"), h.uniform(0.375, 0.625, "pattern y")], 1),
        pattern_angle=h.uniform(-math.pi, math.pi, "pattern angle"),
        noise=h.uniform(0, 30, "noise"),
        noise_key=(h.bits("noise key") & (2**31 - 1)).int(),
    )


def _paint(h: _Hash, colour: Tensor, which: str) -> Tensor:
    """RGB [N, 3]: the named colour, a little brighter or darker and a little off in hue."""
    brightness = h.uniform(0.9, 1.1, f"{which} brightness")[:, None]
    nominal = torch.tensor(list(COLOURS.values()))[colour]
    return (nominal * brightness + h.uniform_rgb(-10, 10, which)).clamp(0, 255)


def _alone(h: _Hash, radius: Tensor) -> Tensor:
    """Centres [N, 2, 2] of the first object alone: near a point of a 3 x 3 grid, inside the picture."""
    place, reach = h.below(9, "place"), REACH * radius[:, 0]
    x = 0.5 + (place % 3 - 1) * 0.26 + h.uniform(-0.04, 0.04, "x")
    y = 0.5 + (place // 3 - 1) * 0.26 + h.uniform(-0.04, 0.04, "y")
    centre = torch.stack([x, y], 1)
    centre = torch.minimum(torch.maximum(centre, reach[:, None]), 1 - reach[:, None])
    return torch.stack([centre, centre], 1)


def _apart(h: _Hash, relation: Tensor, radius: Tensor) -> Tensor:
    """Centres [N, 2, 2] of two objects that don't touch, inside the picture, one clearly beside or above the other.

    Along the axis of the relation, what the two leave free is shared out at random. Across it they differ by at most 0.35
    of their distance along it, so the line between them is within 20 degrees of the axis.
    """
    backwards = (relation % 2 == 1)[:, None]  # "right of", "below": the second object comes first along the axis
    reach = REACH * torch.where(backwards, radius.flip(1), radius)  # [N, 2], in order along the axis
    free = 1 - 2 * reach.sum(1)
    gap = h.uniform(0, 1, "gap")
    first = reach[:, 0] + (1 - gap) * free * h.uniform(0, 1, "along")
    second = first + reach.sum(1) + gap * free
    most = reach.amax(1)
    across = most + (1 - 2 * most) * h.uniform(0, 1, "across")
    shifted = across + 0.35 * (second - first) * h.uniform(-1, 1, "shift")
    shifted = torch.minimum(torch.maximum(shifted, most), 1 - most)
    centre = torch.stack([torch.stack([first, across], 1), torch.stack([second, shifted], 1)], 1)
    centre = torch.where(backwards[:, :, None], centre.flip(1), centre)
    return torch.where((relation >= 2)[:, None, None], centre.flip(2), centre)


class Scenes(Pairs):
    """Drawn scenes as `Pairs`. The same arguments give the same set, on any machine up to one level of rounding.

    Args:
        split: "train", "val" or "zeroshot".
        size: how many rows; None takes 16,000 for train and 1,000 for the others. A smaller set is the beginning of a
            larger one.
        image_size: 32 to 224.
        seed: another seed gives other scenes.
    Raises:
        ClipeduError: for an unknown split, or a size or image size that is out of range.
    """

    name = "scenes"
    templates = ("a {}", "a picture of a {}", "there is a {}", "a {} in a picture", "this picture shows a {}")

    def __init__(self, split: str = "train", size: int | None = None, image_size: int = 32, seed: int = 0):
        if split not in SPLITS:
            raise unknown_name("split of scenes", split, SPLITS)
        size = SPLITS[split] if size is None else size
        if size < 1:
            raise ClipeduError(f"scenes need a size of at least 1, not {size}")
        if split == "val" and size > MAX_VAL:
            raise ClipeduError(f"scenes have at most {MAX_VAL} distinct validation images, not {size}")
        if not 32 <= image_size <= 224:
            raise ClipeduError(f"scenes are drawn at an image size of 32 to 224 pixels, not {image_size}")
        self.split, self.image_size, self.seed = split, image_size, seed
        self.rows = _distinct(seed, split, size) if split == "val" else torch.arange(size)
        self.attributes = sample(seed, split, self.rows)
        words = _Hash(seed, split, self.rows)
        self._dice = torch.stack([words.bits(f"words {k}") for k in range(CAPTIONS)], 1).tolist()
        self._meanings = meanings(self.attributes)
        self._cache: Tensor | None = None
        if split == "zeroshot":
            self.labels = self.attributes.shape[:, 0] * len(COLOURS) + self.attributes.colour[:, 0]
            self.class_names = [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, index: Tensor) -> Tensor:
        """Images of the rows `index` (int64 [B]) as uint8 [B, 3, H, W]. All are drawn at first use if 1 GiB holds them."""
        if self._cache is None and len(self) * 3 * self.image_size**2 <= CACHE_BYTES:
            self._cache = draw(self.attributes, self.image_size)
        return draw(self.attributes[index], self.image_size) if self._cache is None else self._cache[index]

    def captions(self, row: int) -> list[str]:
        """Five captions of train and val rows; none of zeroshot rows, which have labels."""
        return [caption for _, caption in self.claims(row)]

    def claims(self, row: int) -> list[tuple[Meaning, str]]:
        """The captions of one row, each with what it claims."""
        if self.split == "zeroshot":
            return []
        claims = []
        for k, number in enumerate(self._dice[row]):
            dice, meaning, form = Dice(number), self._meanings[row], None
            if self.split == "val":
                form = self._dice[row][0] % 1009 + k  # five sentences that differ
                inverted = k % 2 == 1
            else:
                inverted = dice.pick((False, True))
            if meaning.relation is not None and inverted:
                meaning = meaning.inverted()
            if self.split == "train":
                meaning = meaning.at_level(dice.pick(TRAIN_LEVELS[k]), dice)
            claims.append((meaning, language.say(meaning, dice, form)))
        return claims

    def chain(self, row: int) -> list[str]:
        """Six captions from generic to specific: each is true of some of the scenes that the one before it is true of."""
        return [language.say(meaning, Dice(0)) for meaning in self.chain_meanings(row)]

    def chain_meanings(self, row: int) -> list[Meaning]:
        """What each caption of `chain(row)` claims."""
        number = self._dice[row][0]
        return [self._meanings[row].at_level(level, Dice(number)) for level in range(language.LEVELS)]

    def fingerprint(self) -> str:
        what = f"{self.name}/{self.split}/{len(self)}/{self.image_size}/{self.seed}/version {VERSION}"
        return hashlib.sha256(what.encode()).hexdigest()[:16]


def meanings(scenes: Attributes) -> list[Meaning]:
    """The most specific claim about each scene, with its first object as the subject."""
    columns = (scenes.count, *scenes.shape.T, *scenes.colour.T, *scenes.size.T, scenes.relation, scenes.place[:, 0])
    table = torch.stack([*columns, scenes.background], 1).tolist()
    return [
        Meaning(shape, colour, size, relation, shape2, colour2, size2, background=background)
        if count == 2
        else Meaning(shape, colour, size, place=place, background=background)
        for count, shape, shape2, colour, colour2, size, size2, relation, place, background in table
    ]


def _distinct(seed: int, split: str, size: int) -> Tensor:
    """The first `size` rows of a stream such that the most specific claim about each is true of no other of them."""
    kept: list[int] = []
    claims: set[Meaning] = set()  # about the scenes that are kept
    truths: set[Meaning] = set()  # all most specific claims that are true of a scene that is kept
    start = 0
    while len(kept) < size:
        rows = torch.arange(start, start + size)
        scenes = sample(seed, split, rows)
        objects = torch.stack([scenes.shape, scenes.colour, scenes.size, scenes.place], 2).tolist()
        for row, claim, both in zip(rows.tolist(), meanings(scenes), objects, strict=True):
            true = {claim, claim.inverted()} if claim.relation is not None else {claim}
            for shape, colour, look, place in both[: 1 if claim.relation is None else 2]:
                true.add(Meaning(shape, colour, look, place=place, background=claim.background))
            if claim not in truths and claims.isdisjoint(true):
                kept.append(row)
                claims.add(claim)
                truths |= true
        start += size
    return torch.tensor(kept[:size])
