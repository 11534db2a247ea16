"""`StackedLoss`: the losses of R runs in one call, by `torch.vmap`.

The formula is that of the loss's own file: vmap runs its `terms` once, on embeddings [R, B, D]. Numbers that differ between the runs
(temperature, gamma, weights of terms) are set on the loss as scalars of each run; memory and what is learned are arrays
[R, ...]. A run sees nothing of the others, so one that diverges leaves them as they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from clipedu.geometry import Geometry
from clipedu.losses import Loss, LossOutput
from clipedu.losses.base import add_up
from clipedu.training.stackable import constants
from clipedu.training.stacked_similarity import similarity_by_stacks


class StackedLoss:
    """The losses of R runs, of one kind.

    Args:
        geometries: of the runs, R; all alike.
        losses: of the runs, in training mode, on one device. They are not called, and keep their memory until `give_back`.
    """

    def __init__(self, geometries: Sequence[Geometry], losses: Sequence[Loss]):
        self._losses = losses
        self._module = _Objective(geometries[0], losses[0])
        names = [name for name, _ in losses[0].named_buffers(recurse=False)]
        self._memory = {name: torch.stack([loss.get_buffer(name) for loss in losses]) for name in names}
        values = {name: [constants(loss)[name] for loss in losses] for name in constants(losses[0])}
        self._differing = {
            name: torch.tensor(each, dtype=torch.float32)
            for name, each in values.items()
            if any(value != each[0] for value in each)
        }

    def __call__(
        self, learned: Mapping[str, Tensor], image: Tensor, text: Tensor, index: Tensor, *, progress: float
    ) -> LossOutput:
        """Compute the losses of a batch each, and change the memory.

        Args:
            learned: what is learned beside the projections, by name: "geometry.alpha", "loss.logit_scale", ..., [R, ...] each.
            image, text: what the projections return, [R, B, D] each.
            index: row numbers, int64 [B] where all runs have the same, else [R, B].
            progress: share of the training done.
        Returns:
            as a loss does, with a number for each run, [R], in place of a scalar.
        """
        batched = 0 if index.ndim == 2 else None
        memory = {f"loss.{name}": value for name, value in self._memory.items()}
        differing = {name: value.to(image.device) for name, value in self._differing.items()}
        call = torch.vmap(self._one, in_dims=(0, 0, 0, 0, 0, batched))
        self._losses[0].progress = progress
        with _quiet(), self._constants_kept(), similarity_by_stacks(self._module.geometry):
            terms, watch, lengths = call(self._module.named(learned), memory, differing, image, text, index)
        norms = {f"{side}_norm": length.median(dim=1).values for side, length in lengths.items()}
        kept = ({k: v.detach().clone() for k, v in x.items()} for x in (terms, norms | watch))  # the step changes some
        return LossOutput(add_up(terms.values()), *kept)

    def give_back(self) -> None:
        """Put the memory into the losses of the runs."""
        for name, rows in self._memory.items():
            for loss, row in zip(self._losses, rows, strict=True):
                loss.get_buffer(name).copy_(row)

    def _one(
        self,
        learned: dict[str, Tensor],
        memory: dict[str, Tensor],
        differing: dict[str, Tensor],
        image: Tensor,
        text: Tensor,
        index: Tensor,
    ) -> tuple[dict[str, Tensor], ...]:
        for name, value in differing.items():
            setattr(self._losses[0], name, value)
        return functional_call(self._module, {**learned, **memory}, (image, text, index))

    @contextmanager
    def _constants_kept(self) -> Iterator[None]:
        """Put the numbers of the first loss back at the end."""
        kept = {name: getattr(self._losses[0], name) for name in self._differing}
        try:
            yield
        finally:
            for name, value in kept.items():
                setattr(self._losses[0], name, value)


class _Objective(nn.Module):
    """A geometry and a loss in it, from projections to terms.

    The geometry is registered once, in the loss where that has one: `functional_call` would not give back what it finds twice.
    """

    def __init__(self, geometry: Geometry, loss: Loss):
        super().__init__()
        self.loss, self.prefix = loss, "loss.geometry."
        if getattr(loss, "geometry", None) is not geometry:
            self.own, self.prefix = geometry, "own."

    @property
    def geometry(self) -> Geometry:
        return self.get_submodule(self.prefix[:-1])  # type: ignore[return-value]

    def named(self, learned: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what is learned by its name here; the model calls its geometry "geometry"."""
        return {
            name.replace("geometry.", self.prefix, 1) if name.startswith("geometry.") else name: value
            for name, value in learned.items()
        }

    def forward(self, image: Tensor, text: Tensor, index: Tensor) -> Any:
        loss: Any = self.loss
        geometry = self.geometry
        image, text = geometry.tangent(image, "image").float(), geometry.tangent(text, "text").float()
        with torch.autocast(image.device.type, enabled=False):
            terms = loss.terms(image, text, index)
            lengths = {
                side: torch.linalg.vector_norm(x.detach(), dim=1) for side, x in (("image", image), ("text", text))
            }
            return terms, loss.watched() | geometry.watched(), lengths


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide torch's remark that a clamp in place goes run by run: it is of R numbers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There is a performance drop")
        yield
