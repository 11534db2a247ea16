"""Batches: which rows of a set, in which order.

The order of an epoch is a permutation drawn from (seed, epoch) alone, so a run that is resumed in the middle of an
epoch continues with the same rows; so are the caption each row shows (one of its captions, another one each epoch) and
the augmentation. The last, smaller batch of an epoch is dropped, as the course does: batch size enters most losses.

Several processes share a batch: the order is cut into the same batches for all, and then each batch into one piece a
process (`share`). So the pieces of a step together are the batch that one process would have had, whatever their number.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clipedu.data.pairs import Pairs
from clipedu.utils.errors import ClipeduError
from clipedu.utils.seeding import seeded


@dataclass(frozen=True)
class Precomputed:
    """What is taken instead of reading pixels and tokens, where a run has it.

    Attributes:
        image: one row a pair: uint8 [N, 3, H, W], all pixels on some device (`clipedu.data.prefetch.hold`), or float32 [N, F],
            the features of a frozen image encoder.
        text: the features of a frozen text encoder, float32 [T, G], and the first caption of each row, int64 [N + 1].
    """

    image: Tensor | None = None
    text: tuple[Tensor, Tensor] | None = None


@dataclass
class Batch:
    """One batch, on the CPU until `to`.

    `image` is (pixels,) or (features,); `text` is (ids, mask), or (features,), or ids and mask of two captions a row,
    [B, 2, L], of which the second is the foil. `index` stays on the CPU, where a loss
    can check it without waiting for the device. `first` says where in the batch of all processes these rows begin, and
    `of` how many that batch has; `augment` uses both.
    """

    index: Tensor
    image: tuple[Tensor, ...]
    text: tuple[Tensor, ...]
    first: int = 0
    of: int | None = None

    def to(self, device: torch.device) -> Batch:
        return self.map(lambda t: t.to(device, non_blocking=True))

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with `change` applied to `image` and `text`."""
        return replace(self, image=tuple(map(change, self.image)), text=tuple(map(change, self.text)))

    def split(self, parts: int) -> list[Batch]:
        """Return the batch in this many equal parts, in order."""
        index = self.index.chunk(parts)
        image, text = ([t.chunk(parts) for t in side] for side in (self.image, self.text))
        return [Batch(index[k], tuple(t[k] for t in image), tuple(t[k] for t in text)) for k in range(parts)]


def epoch_order(rows: int, *, seed: int, epoch: int) -> Tensor:
    """Return the order of the rows in an epoch, from (seed, epoch) alone.

    Args:
        rows: how many there are.
        seed, epoch: what the order comes from.
    Returns:
        a permutation of 0..rows-1, int64 [rows].
    """
    return torch.randperm(rows, generator=seeded(seed, epoch, 0))


def caption_choice(rows: int, *, seed: int, epoch: int) -> Tensor:
    """Choose a caption of each row in an epoch, from (seed, epoch) alone.

    Args:
        rows: how many there are.
        seed, epoch: what the choice comes from.
    Returns:
        non-negative numbers, int64 [rows]: row r shows its caption number choice[r] % number of captions.
    """
    return torch.randint(0, 2**31, (rows,), generator=seeded(seed, epoch, 1))


def foil_numbers(rows: int, *, seed: int, epoch: int) -> Tensor:
    """Draw a number for the foil of each row, from (seed, epoch) alone.

    Args:
        rows: how many there are.
        seed, epoch: what the numbers come from.
    Returns:
        non-negative numbers, int64 [rows], for `Pairs.foil`.
    """
    return torch.randint(0, 2**62, (rows,), generator=seeded(seed, epoch, 4))


def share(batch_size: int, rank: int, ranks: int) -> slice:
    """Return the rows of a batch that one of several processes takes.

    Equal pieces in order, the first ones larger by one if the size does not divide. (A loss that gathers the batch needs
    equal ones.)

    Args:
        batch_size: rows of all processes together.
        rank: of this process, 0 <= rank < ranks.
        ranks: how many processes there are.
    Raises:
        ClipeduError: no such rank, or fewer rows than processes.
    """
    if not 0 <= rank < ranks:
        raise ClipeduError(f"rank={rank} of {ranks} processes: give 0 to {ranks - 1}")
    if batch_size < ranks:
        raise ClipeduError(
            f"batch_size={batch_size} cannot be shared by {ranks} processes: give at least one row to each"
        )
    least, larger = divmod(batch_size, ranks)
    start = rank * least + min(rank, larger)
    return slice(start, start + least + (rank < larger))


def batches(
    pairs: Pairs,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    skip: int = 0,
    rank: int = 0,
    ranks: int = 1,
    precomputed: Precomputed = Precomputed(),
    foil_kinds: Sequence[str] = (),
) -> Generator[Batch, None, None]:
    """Yield the batches of one epoch, from batch number `skip` on.

    Args:
        pairs: N tokenized pairs.
        batch_size: rows of all processes together.
        seed, epoch: what the order of the rows and the choice of their captions come from.
        skip: batches of the epoch that are done already.
        rank, ranks: this process takes its `share` of each batch.
        precomputed: taken instead of pixels and tokens.
        foil_kinds: give each caption a foil beside it that is false in one of these, as `Pairs.foil_tokens` does.
    Raises:
        ClipeduError: a batch larger than the data, or one that cannot be shared.
    """
    rows = len(pairs)
    if batch_size > rows:
        raise ClipeduError(
            f"batch_size={batch_size} is larger than the data: {pairs.name}/{pairs.split} has {rows} pairs"
        )
    own = share(batch_size, rank, ranks)
    order = epoch_order(rows, seed=seed, epoch=epoch)
    choice = caption_choice(rows, seed=seed, epoch=epoch)
    numbers = foil_numbers(rows, seed=seed, epoch=epoch) if foil_kinds else choice
    image = precomputed.image
    if precomputed.text is not None:
        features, first = precomputed.text
        caption = first[:-1] + choice % first.diff()  # of each row
    for start in range(skip * batch_size, rows - batch_size + 1, batch_size):
        index = order[start + own.start : start + own.stop]
        seen = pairs.pixels(index) if image is None else image[index.to(image.device)]
        read: tuple[Tensor, ...]
        if precomputed.text is not None:
            read = (features[caption[index]],)
        elif foil_kinds:
            read = pairs.foil_tokens(index, choice[index], foil_kinds, numbers[index])
        else:
            read = pairs.tokens(index, choice[index])
        yield Batch(index, (seen,), read, own.start, batch_size)
