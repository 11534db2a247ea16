"""Batches: which rows, in which order, and what is done to them on the device.

The order of an epoch is a permutation drawn from (seed, epoch) alone, so a run that is resumed in the middle of an epoch
goes on with the same rows; so are the caption each row shows (one of its captions, another one each epoch) and the
augmentation. The last, smaller batch of an epoch is dropped, as the course does: batch size enters most losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clipedu.data.pairs import Pairs
from clipedu.registry import ClipeduError, unknown_name

AUGMENTATIONS = ("none", "crop", "crop-flip")


@dataclass
class Batch:
    """One batch, on the CPU until `to`. `image` is (pixels,) or (features,); `text` is (ids, mask) or (features,).

    `index` stays on the CPU, where a loss can check it without waiting for the device.
    """

    index: Tensor
    image: tuple[Tensor, ...]
    text: tuple[Tensor, ...]

    def to(self, device: torch.device) -> Batch:
        def move(t: Tensor) -> Tensor:
            return t.to(device, non_blocking=True)

        return Batch(self.index, tuple(map(move, self.image)), tuple(map(move, self.text)))

    def split(self, parts: int) -> list[Batch]:
        """The batch in this many equal parts, in order."""
        index = self.index.chunk(parts)
        image, text = ([t.chunk(parts) for t in side] for side in (self.image, self.text))
        return [Batch(index[k], tuple(t[k] for t in image), tuple(t[k] for t in text)) for k in range(parts)]


def epoch_order(rows: int, *, seed: int, epoch: int) -> Tensor:
    """The permutation of 0..rows-1 in which an epoch visits the rows: int64 [rows], from (seed, epoch) alone."""
    return torch.randperm(rows, generator=_generator(seed, epoch, 0))


def caption_choice(rows: int, *, seed: int, epoch: int) -> Tensor:
    """Random numbers, int64 [rows], from (seed, epoch): row r shows its caption number choice[r] % number of captions."""
    return torch.randint(0, 2**31, (rows,), generator=_generator(seed, epoch, 1))


def batches(
    pairs: Pairs,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    skip: int = 0,
    image_features: Tensor | None = None,
    text_features: tuple[Tensor, Tensor] | None = None,
) -> Iterator[Batch]:
    """The batches of one epoch, from batch number `skip` on.

    Args:
        pairs: tokenized pairs.
        image_features: [N, F], one a row, taken instead of pixels (frozen image encoder).
        text_features: ([T, G], first caption of each row [N + 1]), taken instead of tokens (frozen text encoder).
    Raises:
        ClipeduError: a batch larger than the data.
    """
    rows = len(pairs)
    if batch_size > rows:
        raise ClipeduError(
            f"batch_size={batch_size} is larger than the data: {pairs.name}/{pairs.split} has {rows} pairs"
        )
    order = epoch_order(rows, seed=seed, epoch=epoch)
    choice = caption_choice(rows, seed=seed, epoch=epoch)
    for start in range(skip * batch_size, rows - batch_size + 1, batch_size):
        index = order[start : start + batch_size]
        image = (pairs.pixels(index),) if image_features is None else (image_features[index],)
        if text_features is None:
            text = pairs.tokens(index, choice[index])
        else:
            features, first = text_features
            text = (features[first[index] + choice[index] % (first[index + 1] - first[index])],)
        yield Batch(index, image, text)


def augment(pixels: Tensor, how: str, *, seed: int, step: int) -> Tensor:
    """Random resized crop (area 0.5 to 1, aspect 3/4 to 4/3) and, for "crop-flip", a mirror with probability 1/2.

    One batched pass on the pixels' device; the parameters come from (seed, step).

    Args:
        pixels: uint8 or float [B, 3, H, W] in 0..255.
        how: "none", "crop" or "crop-flip".
    Returns:
        float32 [B, 3, H, W] in 0..255, or `pixels` itself for "none".
    Raises:
        ClipeduError: an unknown `how`.
    """
    if how not in AUGMENTATIONS:
        raise unknown_name("augment", how, AUGMENTATIONS)
    if how == "none":
        return pixels
    count = len(pixels)
    u = torch.rand(count, 5, generator=_generator(seed, step, 2))
    area, aspect = 0.5 + 0.5 * u[:, 0], torch.exp((2 * u[:, 1] - 1) * torch.log(torch.tensor(4 / 3)))
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    mirror = torch.where(u[:, 4] < 0.5, -1.0, 1.0) if how == "crop-flip" else torch.ones(count)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = width * mirror, (2 * u[:, 2] - 1) * (1 - width)
    theta[:, 1, 1], theta[:, 1, 2] = height, (2 * u[:, 3] - 1) * (1 - height)
    grid = F.affine_grid(theta.to(pixels.device), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _generator(*key: int) -> torch.Generator:
    """A generator whose seed mixes several numbers, so that neighbours are unrelated."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))
