"""`Attributes`: the attributes of a number of scenes, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Attributes:
    """The attributes of N scenes.

    Index with rows, a slice or a mask to get some of them.

    Each scene has slots for two objects; `exists()` says which are used. Lengths are fractions of the image's side.
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
        """Copy all tensors to a device."""
        return Attributes(*(getattr(self, field.name).to(device) for field in fields(self)))

    def exists(self) -> Tensor:
        """Return which objects exist, the first and the second: bool [N, 2]."""
        return torch.stack([self.count > 0, self.count > 1], 1)
