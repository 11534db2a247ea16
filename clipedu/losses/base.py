r"""What all losses share, so that each loss's own file holds its formula and nothing else.

A loss is an `nn.Module`. It takes a batch of B matching pairs and says how badly they are matched:

    output = loss(image, text, index)       # image [B, D], text [B, D], index int64 [B]
    output.total.backward()

- `image` and `text` are *raw* projections: row i of one belongs to row i of the other. A loss that rests on a
  similarity has a `geometry`, and the geometry normalises (see `clipedu.geometry`).
- `index` holds the row numbers in the data set: a loss with memory keeps its running averages under them. A row should
  be in a batch once.
- Inside, everything is float32 (float64 if that is what came in), whatever autocast says: at temperature 0.01 the step
  between two neighbouring float16 similarities is already 0.02 to 0.05 in the logits.
- Memory changes in a training forward only (`loss.train()`), never in `loss.eval()` nor in `pair_weights`.

A similarity loss is a function of the matrix $S_{ij}$ = similarity(image i, text j) alone (or nearly). All that it does
to the encoders goes through $W = \partial L / \partial S$: a negative entry pulls its pair together, a positive one
pushes it apart. `pair_weights` returns W; a heat map of W *is* the loss, seen.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from clipedu.geometry import Cosine, Geometry
from clipedu.losses.distributed import gather
from clipedu.utils.errors import ClipeduError, unknown_name


@dataclass(frozen=True)
class LossOutput:
    """What a loss returns: `total`, a scalar to differentiate; `terms`, its parts by name, which add up to it; and `watch`.

    `watch` holds numbers worth logging that are no part of the total (a learned temperature), detached, by name.
    """

    total: Tensor
    terms: dict[str, Tensor]
    watch: dict[str, Tensor] = field(default_factory=dict)


class Loss(nn.Module):
    """Base of all losses. A subclass says `terms`; `description`, `paper` and `formula` (LaTeX) go to the registry.

    Attributes:
        progress: share of the training done, in [0, 1]. Who trains sets it before each step; schedules read it.
    """

    description: str
    paper: str
    formula: str
    progress: float = 0.0

    def terms(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The parts of the loss by name, scalars with gradient, whose sum is the loss. Subclasses implement this."""
        raise NotImplementedError

    def watched(self) -> dict[str, Tensor]:
        """Scalars worth logging besides the terms, by name: what the loss learns or schedules."""
        return {}

    def pair_weights(self, image: Tensor, text: Tensor, index: Tensor) -> Tensor:
        """dL/dS at these embeddings, [B, B] (rows images, columns texts). Memory and gradients are left alone."""
        raise NotImplementedError

    def forward(self, image: Tensor, text: Tensor, index: Tensor) -> LossOutput:
        """The loss of a batch: image [B, D], text [B, D], index int64 [B].

        In training, with a process group initialised, the batch is the one of all processes together (see `gather`).
        Raises `ClipeduError` for shapes that do not fit, for a batch of one, and, in losses with memory, for a row
        number that is out of range. (That check waits for the device unless `index` is on the CPU, where it is free.)
        """
        image, text, index = self.prepare(image, text, index)
        with torch.autocast(image.device.type, enabled=False):
            if self.training:
                image, text, index = gather(image, text, index)
            terms = self.terms(image, text, index)
            watch = self.watched()
        numbers = ({name: value.detach().clone() for name, value in group.items()} for group in (terms, watch))
        return LossOutput(sum(terms.values()), *numbers)

    def prepare(self, image: Tensor, text: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Check shapes, bring both embeddings to one dtype (at least float32), and `index` to their device."""
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
    """A loss that is a function of the similarity matrix S [B, B], and perhaps of running averages.

    A subclass says `objective(similarity, **memory)`. One with memory also says `blend`, which gives the running
    averages as they become with this batch (the keyword arguments of `objective`), and `store`, which keeps them. One
    that can do without S in memory says `streamed`, which is used for batches larger than `stream_above`.

    Args:
        temperature: what similarities are divided by, > 0; where a learned one starts.
        geometry: gives S; None is `Cosine()`.
        scale: "paper" leaves the loss at the size its authors gave it; "clip" multiplies it by `clip_scale`, so that its
            gradient has the size of CLIP's and one learning rate suits all losses of a comparison.
        learn_temperature: make the temperature a parameter, `logit_scale` = log(1 / temperature), to be given to the
            optimizer without weight decay. It stays in the geometry's `logit_scale_range`.
    """

    stream_above: float = math.inf

    def __init__(
        self,
        temperature: float,
        geometry: Geometry | None = None,
        scale: str = "paper",
        learn_temperature: bool = False,
    ):
        super().__init__()
        self.first_temperature = number("temperature", temperature, above=0)
        if geometry is not None and not isinstance(geometry, nn.Module):
            raise ClipeduError(f"geometry must be an object, got {geometry!r}: pass build_geometry(name, dim)")
        self.geometry = Cosine() if geometry is None else geometry
        self.scale = choice("scale", scale, ("paper", "clip"))
        self.logit_scale = self._learned_scale() if learn_temperature else None

    @property
    def temperature(self) -> float | Tensor:
        """What similarities are divided by: a float, or, if learned, a scalar tensor with gradient.

        A learned `logit_scale` is clamped *itself*, in place, whenever it is read. (A clamp of the value alone has no
        gradient outside the range, and a step too far would be a step for good.)
        """
        if self.logit_scale is None:
            return self.first_temperature
        with torch.no_grad():
            self.logit_scale.clamp_(*self.geometry.logit_scale_range)
        return torch.exp(-self.logit_scale)

    @property
    def temperature_value(self) -> float | Tensor:
        """The temperature as a constant: no gradient flows through it."""
        return self.first_temperature if self.logit_scale is None else self.temperature.detach()

    @property
    def clip_scale(self) -> float | Tensor:
        """What brings this loss's gradient to the size of CLIP's; a constant, also where the temperature is learned."""
        return 1.0

    def watched(self) -> dict[str, Tensor]:
        return {} if self.logit_scale is None else {"temperature": self.temperature_value}

    def objective(self, similarity: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        """The parts of the loss, in the paper's own scale, from S [B, B] and the running averages (constants)."""
        raise NotImplementedError

    def streamed(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The same parts, from the embeddings, never holding S as a whole (see `streamed.py`). In training, memory is kept."""
        raise NotImplementedError

    def blend(self, similarity: Tensor, index: Tensor) -> dict[str, Tensor]:
        """What the running averages become with this batch, by name; stores nothing. No averages: nothing."""
        return {}

    def store(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Keep what `blend` returned in the buffers of these names. No averages: nothing to keep."""

    def terms(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        if len(image) > self.stream_above:
            return self._scaled(self.streamed(image, text, index))
        similarity = self.geometry.similarity(image, text)
        memory = self.blend(similarity.detach(), index)
        if self.training:
            self.store(index, memory)
        return self._scaled(self.objective(similarity, **memory))

    def pair_weights(self, image: Tensor, text: Tensor, index: Tensor) -> Tensor:
        """dL/dS at these embeddings, [B, B]: what a training step would do to each pair. Memory is left alone.

        W[i, j] < 0 pulls image i and text j together, > 0 pushes them apart. Parts of a loss that do not see S
        (CyCLIP's in-modal term) are not in it.
        """
        image, text, index = self.prepare(image, text, index)
        with torch.autocast(image.device.type, enabled=False), torch.enable_grad():
            similarity = self.geometry.similarity(image, text).detach().requires_grad_()
            terms = self._scaled(self.objective(similarity, **self.blend(similarity.detach(), index)))
            return torch.autograd.grad(sum(terms.values()), similarity)[0]

    def _scaled(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        factor = self.clip_scale if self.scale == "clip" else 1.0
        return {name: factor * term for name, term in terms.items()}

    def _learned_scale(self) -> nn.Parameter:
        low, high = self.geometry.logit_scale_range
        start = -math.log(self.first_temperature)
        if not low - 1e-6 <= start <= high + 1e-6:
            allowed = f"{math.exp(-high):.4g} to {math.exp(-low):.4g}"
            raise ClipeduError(
                f"a learned temperature cannot start at {self.first_temperature:g}: this geometry allows {allowed}"
            )
        return nn.Parameter(torch.tensor(start))


def number(
    name: str, value: float, *, above: float | None = None, at_least: float | None = None, at_most: float | None = None
) -> float:
    """`value` as a float, or a `ClipeduError` such as "gamma must be a number > 0 and <= 1, got 2"."""
    limits = [(">", above, operator.gt), (">=", at_least, operator.ge), ("<=", at_most, operator.le)]
    limits = [(sign, limit, holds) for sign, limit, holds in limits if limit is not None]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not all(holds(value, limit) for _, limit, holds in limits):
        allowed = " and".join(f" {sign} {limit:g}" for sign, limit, _ in limits)
        raise ClipeduError(f"{name} must be a number{allowed}, got {value!r}")
    return float(value)


def choice(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """`value`, or a `ClipeduError` that lists what is allowed."""
    if value not in allowed:
        raise unknown_name(name, value, allowed)
    return value
