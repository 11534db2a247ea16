r"""What all losses share; each loss's own file holds its formula alone.

A loss is an `nn.Module`. It takes a batch of B matching pairs and measures how badly they are matched:

    output = loss(image, text, index)       # image [B, D], text [B, D], index int64 [B]
    output.total.backward()

- `image` and `text` are *raw* projections: row i of one belongs to row i of the other. A loss that is computed from
  similarities has a `geometry`, and the geometry normalises (see `clipedu.geometry`).
- `index` holds the row numbers in the data set: a loss with memory keeps its running averages under them. A row should
  be in a batch once.
- Inside, everything is float32 (float64 if that is what came in), also under autocast: at temperature 0.01 the step
  between two neighbouring float16 similarities is already 0.02 to 0.05 in the logits.
- Memory changes in a training forward only (`loss.train()`), never in `loss.eval()` nor in `pair_weights`.

A similarity loss is a function of the matrix $S_{ij}$ = similarity(image i, text j) alone (or nearly). All that it does
to the encoders goes through $W = \partial L / \partial S$: a negative entry pulls its pair together, a positive one
pushes it apart. `pair_weights` returns W, and a heat map of W shows what the loss does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from clipedu.geometry import Cosine, Geometry
from clipedu.losses.distributed import gather
from clipedu.utils.checks import checked_choice, checked_number
from clipedu.utils.errors import ClipeduError


@dataclass(frozen=True)
class LossOutput:
    """What a loss returns.

    Attributes:
        total: the loss, a scalar to differentiate.
        terms: its parts by name, detached scalars, which add up to the total.
        watch: numbers worth logging that are no part of the total (a learned temperature), detached scalars by name.
    """

    total: Tensor
    terms: dict[str, Tensor]
    watch: dict[str, Tensor] = field(default_factory=dict)


class Loss(nn.Module):
    """Base of all losses. A subclass implements `terms`.

    Attributes:
        description, paper, formula: for the registry; the formula in LaTeX.
        progress: share of the training done, in [0, 1]. The training loop sets it before each step; schedules read it.
    """

    description: str
    paper: str
    formula: str
    progress: float = 0.0

    def terms(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Compute the parts of the loss, by name, whose sum is the loss.

        They are scalars with gradient.

        Args:
            image, text: projections [B, D], as `prepare` returns them.
            index: their row numbers in the data set, int64 [B].
        """
        raise NotImplementedError

    def watched(self) -> dict[str, Tensor]:
        """Return what the loss learns or schedules, as scalars to log, by name."""
        return {}

    def pair_weights(self, image: Tensor, text: Tensor, index: Tensor) -> Tensor:
        """Compute dL/dS, [B, B]; rows are images. Memory stays unchanged.

        Args:
            image, text: raw projections [B, D].
            index: their row numbers in the data set, int64 [B].

        Raises:
            ClipeduError: as for `forward`, and for a loss that compares no pairs.
        """
        raise NotImplementedError

    def forward(self, image: Tensor, text: Tensor, index: Tensor) -> LossOutput:
        """Compute the loss of a batch.

        In training, with a process group initialised, the batch is that of all processes together (see `gather`).

        Args:
            image, text: raw projections [B, D]; row i of one belongs to row i of the other.
            index: their row numbers in the data set, int64 [B].

        Raises:
            ClipeduError: shapes that do not fit, a batch of one, or, in losses with memory, a row number out of range.
                (That check waits for the device unless `index` is on the CPU, where it is free.)
        """
        image, text, index = self.prepare(image, text, index)
        with torch.autocast(image.device.type, enabled=False):
            if self.training:
                image, text, index = gather(image, text, index)
            terms = self.terms(image, text, index)
            watch = self.watched()
        return LossOutput(add_up(terms.values()), _copied(terms), _copied(watch))

    def prepare(self, image: Tensor, text: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Check a batch and bring it to one dtype and device.

        Args:
            image, text: raw projections [B, D].
            index: their row numbers in the data set, int64 [B].

        Returns:
            Both embeddings in one dtype, at least float32, and `index` on their device.

        Raises:
            ClipeduError: shapes that do not fit, another dtype of `index`, or a batch of one.
        """
        if image.ndim != 2 or image.shape != text.shape or index.shape != image.shape[:1]:
            given = f"{list(image.shape)}, {list(text.shape)} and {list(index.shape)}"
            raise ClipeduError(f"a loss takes image [B, D], text [B, D] and index [B]; got {given}")
        if index.dtype != torch.int64:
            raise ClipeduError(f"index holds row numbers, so it must be int64; got {index.dtype}")
        if len(image) < 2:
            raise ClipeduError(f"a batch of {len(image)} has nothing to compare: use a batch size of at least 2")
        dtype = torch.promote_types(torch.promote_types(image.dtype, text.dtype), torch.float32)
        return image.to(dtype), text.to(dtype), index.to(image.device)


class SimilarityLoss(Loss):
    """A function of the similarity matrix S [B, B] and of running averages.

    A subclass implements `objective(similarity, **memory)`. One with memory also implements `blend`, which computes the
    running averages after this batch (the keyword arguments of `objective`), and `store`, which keeps them. One that
    can do without the whole of S implements `streamed`, which is used for batches larger than `stream_above`.

    Args:
        temperature: what similarities are divided by, > 0; the initial value of a learned one.
        geometry: computes S; None is `Cosine()`.
        scale: "paper" leaves the loss at the size its authors gave it; "clip" multiplies it by `clip_scale`, so that
            its gradient has the size of CLIP's and one learning rate suits all losses of a comparison.
        learn_temperature: make the temperature a parameter, `logit_scale` = log(1 / temperature), to be given to the
            optimizer without weight decay. It stays in the geometry's `logit_scale_range`.
        scale_range: another range for it, lowest and highest.

    Raises:
        ClipeduError: a value out of range, or a geometry that is no object.
    """

    stream_above: float = math.inf
    logit_scale: nn.Parameter | None

    def __init__(
        self,
        temperature: float = 0.01,
        geometry: Geometry | None = None,
        scale: str = "paper",
        learn_temperature: bool = False,
        scale_range: tuple[float, float] | None = None,
    ):
        super().__init__()
        self.first_temperature = checked_number("temperature", temperature, above=0)
        if geometry is not None and not isinstance(geometry, nn.Module):
            raise ClipeduError(f"geometry must be an object, got {geometry!r}: pass build_geometry(name, dim)")
        self.geometry = Cosine() if geometry is None else geometry
        self.logit_scale_range = self.geometry.logit_scale_range if scale_range is None else scale_range
        self.scale = checked_choice("scale", scale, ("paper", "clip"))
        self.logit_scale = self._first_logit_scale() if learn_temperature else None

    @property
    def temperature(self) -> float | Tensor:
        """What similarities are divided by.

        It is a float, or, if learned, a scalar tensor with gradient.
        """
        return self.first_temperature if self.logit_scale is None else self.learned_temperature

    @property
    def learned_temperature(self) -> Tensor:
        """The temperature exp(-logit_scale) of a loss that learns it.

        It is a scalar with gradient.

        `logit_scale` *itself* is clamped, in place, whenever it is read. (A clamp of the value alone has no gradient
        outside the range, so a step too far could never be undone.)
        """
        assert self.logit_scale is not None, "the temperature is not learned"
        with torch.no_grad():
            self.logit_scale.clamp_(*self.logit_scale_range)
        return torch.exp(-self.logit_scale)

    @property
    def temperature_value(self) -> float | Tensor:
        """The temperature as a constant: no gradient flows through it."""
        return self.first_temperature if self.logit_scale is None else self.learned_temperature.detach()

    @property
    def clip_scale(self) -> float | Tensor:
        """The factor that brings the gradient to the size of CLIP's.

        It is a constant, also if the temperature is learned.
        """
        return 1.0

    def watched(self) -> dict[str, Tensor]:
        return {} if self.logit_scale is None else {"temperature": self.learned_temperature.detach()}

    def objective(self, similarity: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        """Compute the parts of the loss, in the paper's own scale.

        Args:
            similarity: S [B, B], with gradient.
            **memory: the running averages from `blend`, constants.
        """
        raise NotImplementedError

    def streamed(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Compute the parts of `objective` without the whole of S.

        See `streaming.py`. In training, store the memory.

        Args:
            image, text: projections [B, D], as `prepare` returns them.
            index: their row numbers in the data set, int64 [B].
        """
        raise NotImplementedError

    def blend(self, similarity: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Compute the running averages after this batch, and store nothing.

        The result is by name, and {} for a loss without memory.
        """
        return {}

    def store(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Store what `blend` returned in the buffers of these names."""

    def terms(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        if len(image) > self.stream_above:
            return self._scaled(self.streamed(image, text, index))
        similarity = self.geometry.similarity(image, text)
        memory = self.blend(similarity.detach(), index)
        if self.training:
            self.store(index, memory)
        return self._scaled(self.objective(similarity, **memory))

    def pair_weights(self, image: Tensor, text: Tensor, index: Tensor) -> Tensor:
        """Compute dL/dS, [B, B]: what a training step would do to each pair.

        Memory stays unchanged.

        W[i, j] < 0 pulls image i and text j together, > 0 pushes them apart. Parts of a loss that do not depend on S
        (CyCLIP's in-modal term) are not in it.

        Args:
            image, text: raw projections [B, D].
            index: their row numbers in the data set, int64 [B].

        Raises:
            ClipeduError: as for `forward`.
        """
        image, text, index = self.prepare(image, text, index)
        with torch.autocast(image.device.type, enabled=False), torch.enable_grad():
            similarity = self.geometry.similarity(image, text).detach().requires_grad_()
            terms = self._scaled(self.objective(similarity, **self.blend(similarity.detach(), index)))
            return torch.autograd.grad(add_up(terms.values()), similarity)[0]

    def _scaled(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        factor = self.clip_scale if self.scale == "clip" else 1.0
        return {name: factor * term for name, term in terms.items()}

    def _first_logit_scale(self) -> nn.Parameter:
        low, high = self.logit_scale_range
        start = -math.log(self.first_temperature)
        if not low - 1e-6 <= start <= high + 1e-6:
            allowed = f"{math.exp(-high):.4g} to {math.exp(-low):.4g}"
            raise ClipeduError(
                f"a learned temperature cannot start at {self.first_temperature:g}: this geometry allows {allowed}"
            )
        return nn.Parameter(torch.tensor(start))


def add_up(terms: Iterable[Tensor]) -> Tensor:
    """Add up the terms of a loss, at least one, in their order."""
    return cast(Tensor, sum(terms))


def _copied(scalars: dict[str, Tensor]) -> dict[str, Tensor]:
    """Detach and copy: the next step may change the originals in place."""
    return {name: value.detach().clone() for name, value in scalars.items()}
