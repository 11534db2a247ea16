r"""Foils: the image should be closer to its caption than to a false one.

A foil is the caption with one thing changed, so that it is false of the image: "above" for "below". Each row i that has one adds the
softmax cross-entropy of the caption against its foil alone:

$$ L = L_{\mathrm{contrastive}} + \lambda \cdot \frac{1}{|F|} \sum_{i \in F}
       \log\Big(1 + e^{(S(x_i, f_i) - S(x_i, y_i)) / \tau}\Big) $$

S is the similarity in the loss's geometry and tau its temperature, learned if the loss learns it. A model that cannot tell the two
apart pays log 2 a row. Other captions of a batch differ from a caption in many things, so they seldom ask for the relation or for what
belongs together; a foil asks for nothing else.

Source: NegCLIP (Yuksekgonul et al. 2023, ARO, arXiv:2210.01936), which makes foils of captions by swapping words and puts them into the
batch's softmax, each as a negative for *all* images, beside images that are near to each other. Here a foil meets its own image alone. So
the term is the same beside every loss that rests on a similarity, in every geometry, and its weight is a knob; B rows cost B more
captions and no more of a similarity matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from clipedu.geometry import Geometry
from clipedu.geometry.base import matched_similarity
from clipedu.losses.base import Loss, LossOutput, SimilarityLoss
from clipedu.losses.distributed import gather
from clipedu.losses.entailment import Entailed
from clipedu.utils.checks import checked_number
from clipedu.utils.errors import ClipeduError


class Foiled(Loss):
    """A contrastive loss with the foil term added.

    Terms: those of `loss`, and "foils" (times the weight).

    Watch: "foil_accuracy", the share of captions that are closer to their image than their foil, a tie counting half; 1/2 for a
    batch without foils.

    Args:
        loss: a loss that is computed from similarities, or an `Entailed` one.
        weight: lambda, >= 0.

    Raises:
        ClipeduError: a loss without geometry, or a weight out of range.
    """

    def __init__(self, loss: Loss, weight: float):
        super().__init__()
        compared = loss.loss if isinstance(loss, Entailed) else loss
        if not isinstance(compared, SimilarityLoss):
            raise ClipeduError(
                f"{type(loss).__name__.lower()} rests on no similarity, so it cannot compare a caption with its foil"
            )
        self.loss = loss
        self.weight = checked_number("weight", weight, at_least=0)

    @property
    def compared(self) -> SimilarityLoss:
        """The loss whose similarity and temperature foils are compared with."""
        loss = self.loss.loss if isinstance(self.loss, Entailed) else self.loss
        assert isinstance(loss, SimilarityLoss)
        return loss

    @property
    def geometry(self) -> Geometry:
        return self.compared.geometry

    @property
    def stream_above(self) -> float:
        """The batch size above which the loss is computed tile by tile."""
        return self.compared.stream_above

    def forward(self, image: Tensor, text: Tensor, index: Tensor, told: Tensor | None = None) -> LossOutput:
        """Compute the loss of a batch.

        Args:
            image, index: as in `Loss.forward`.
            text: raw projections [B, 2, D] of each row's caption and its foil; [B, D] for captions alone, which have the loss
                without the term.
            told: which rows have a foil, bool [B]; None: all. What stands for a foil in the others is not looked at.

        Raises:
            ClipeduError: as `Loss.forward`.
        """
        self.loss.progress = self.progress
        if text.ndim != 3:
            return self.loss(image, text, index)
        if text.shape[1] != 2:
            raise ClipeduError(f"foils take text [B, 2, D], a caption and its foil a row; got {list(text.shape)}")
        output = self.loss(image, text[:, 0], index)
        image, true, index = self.prepare(image, text[:, 0], index)
        has = torch.ones_like(index) if told is None else told.to(index)
        both = torch.cat([true, text[:, 1].to(true.dtype)], 1)
        if self.training:
            image, both, has = gather(image, both, has)
        true, foil = both.chunk(2, 1)
        with torch.autocast(image.device.type, enabled=False):
            lead = matched_similarity(self.geometry, image, foil) - matched_similarity(self.geometry, image, true)
            share = has.to(lead.dtype) / has.sum().clamp(min=1)
            term = self.weight * (softplus(lead / self.compared.temperature) * share).sum()
            ahead = (1 - lead.detach().sign()) / 2
            accuracy = (ahead * share).sum() + 0.5 * (has.sum() == 0)
        watch = {"foil_accuracy": accuracy}
        return LossOutput(output.total + term, output.terms | {"foils": term.detach()}, output.watch | watch)

    def pair_weights(self, image: Tensor, text: Tensor, index: Tensor) -> Tensor:
        """Compute dL/dS of the contrastive part.

        Args and Raises as in `Loss.pair_weights`. Foils are not among the pairs of S.
        """
        return self.loss.pair_weights(image, text, index)
