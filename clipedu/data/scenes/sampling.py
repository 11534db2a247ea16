"""Sample scenes: a pure function of (seed, split, row)."""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor

from clipedu.data.scenes import captions as language
from clipedu.data.scenes.attributes import Attributes
from clipedu.data.scenes.captions import Meaning, meanings
from clipedu.data.scenes.drawing import BACKGROUNDS, COLOURS, REACH, SHAPES, SIZES

VERSION = 1  # of the generator: raise it when a scene or a caption comes out differently

SPLITS = {"train": 16_000, "val": 1_000, "zeroshot": 1_000}  # name -> default size

MAX_VAL = 50_000

_GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as int64


def _mix(x: Tensor) -> Tensor:
    """Mix each int64 over all 64 bits; products wrap around.

    It is the finalizer of SplitMix64 (Steele et al. 2014).
    """
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        x = (x ^ ((x >> shift) & (2 ** (64 - shift) - 1))) * factor
    return x ^ ((x >> 31) & (2**33 - 1))


class SceneHash:
    """Random attributes of scenes, each a hash of its name and the scene."""

    def __init__(self, seed: int, split: str, rows: Tensor):
        stream = torch.tensor([(seed * len(SPLITS) + list(SPLITS).index(split)) % 2**62])
        self.key = _mix(_mix(stream * _GOLDEN + 1) + rows * _GOLDEN)  # int64 [N]

    def bits(self, name: str) -> Tensor:
        """Return int64 [N] from 0 to 2**62 - 1."""
        return _mix(self.key ^ (zlib.crc32(name.encode()) * 0x2545F491)) & (2**62 - 1)

    def below(self, n: int, name: str) -> Tensor:
        """Return int64 [N] from 0 to n - 1, equally often."""
        return ((self.bits(name) & (2**31 - 1)) * n) >> 31

    def uniform(self, low: float, high: float, name: str) -> Tensor:
        """Return float [N] from low to high."""
        return low + (high - low) * ((self.bits(name) & (2**24 - 1)).float() / 2**24)

    def uniform_rgb(self, low: float, high: float, name: str) -> Tensor:
        """Return float [N, 3] from low to high, one for each channel."""
        return torch.stack([self.uniform(low, high, f"{name} {channel}") for channel in "rgb"], 1)


def sample(seed: int, split: str, rows: Tensor) -> Attributes:
    """Sample the attributes of some scenes.

    Args:
        seed: any integer.
        split: "train", "val" or "zeroshot"; each has its own stream of scenes.
        rows: int64 [N], numbers of scenes in the stream, not negative.
    """
    h = SceneHash(seed, split, rows)
    count = torch.where(h.below(5, "count") < 2, 1, 2)
    shape, colour = h.below(len(SHAPES), "shape"), h.below(len(COLOURS), "colour")
    if split == "zeroshot":
        label = rows * 37 % (len(SHAPES) * len(COLOURS))  # each class once in every 100 rows, in mixed order
        shape, colour = label // len(COLOURS), label % len(COLOURS)
        count = torch.ones_like(rows)
    # The second object differs from the first in shape and in colour, so that a shape or a colour says which is meant.
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


def _paint(h: SceneHash, colour: Tensor, which: str) -> Tensor:
    """Return RGB [N, 3]: the named colour with jitter."""
    brightness = h.uniform(0.9, 1.1, f"{which} brightness")[:, None]
    nominal = torch.tensor(list(COLOURS.values()))[colour]
    return (nominal * brightness + h.uniform_rgb(-10, 10, which)).clamp(0, 255)


def _alone(h: SceneHash, radius: Tensor) -> Tensor:
    """Place an object alone near a point of a 3 x 3 grid.

    Returns centres [N, 2, 2] inside the image, equal for both slots.
    """
    place, reach = h.below(9, "place"), REACH * radius[:, 0]
    x = 0.5 + (place % 3 - 1) * 0.26 + h.uniform(-0.04, 0.04, "x")
    y = 0.5 + (place // 3 - 1) * 0.26 + h.uniform(-0.04, 0.04, "y")
    centre = torch.stack([x, y], 1)
    centre = torch.minimum(torch.maximum(centre, reach[:, None]), 1 - reach[:, None])
    return torch.stack([centre, centre], 1)


def _apart(h: SceneHash, relation: Tensor, radius: Tensor) -> Tensor:
    """Place two objects, one clearly beside or above the other.

    Returns centres [N, 2, 2]; the objects don't touch and are inside the image.

    Along the axis of the relation, the free length is divided at random. Across it they differ by at most 0.35 of their
    distance along it, so the line between them is within 20 degrees of the axis.
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


def distinct_rows(seed: int, split: str, size: int) -> Tensor:
    """Select the first rows of a stream that captions can distinguish.

    The most specific claim about each is true of no other of them.

    Args:
        seed, split: of the stream, as for `sample`.
        size: how many rows.
    Returns:
        int64 [size], in order.
    """
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
