r"""CLIP: softmax cross-entropy over the batch, both directions (InfoNCE; Radford et al. 2021, arXiv 2103.00020).

$$ L = \frac{1}{2B} \sum_i \Big[ -\log \frac{e^{S_{ii}/\tau}}{\sum_j e^{S_{ij}/\tau}}
                                 -\log \frac{e^{S_{ii}/\tau}}{\sum_j e^{S_{ji}/\tau}} \Big] $$

Read it as a quiz with B answers. Given image i, which of the B texts is its own (first part; rows of S)? Given text i,
which image (second part; columns)? The temperature says how sure a given lead in similarity makes the answer.

The gradient: with P the row softmax and Q the column softmax of S / tau, dL/dS = (P + Q - 2 I) / (2 B tau). Each anchor
has a pull on its own pair of 1 - P_ii and the same amount of push, spread over the others as the softmax spreads them:
hard negatives get nearly all. Once a pair has won (P_ii = Q_ii = 1) its weight is gone: easy pairs go dark. At tau =
0.01 that happens at a margin of about 0.1. The total push is at most 1 / tau.

If all similarities are equal (a collapsed model, or pure guessing) the loss is log B.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from clipedu.geometry import Geometry
from clipedu.losses.base import SimilarityLoss
from clipedu.losses.streamed import STREAM_ABOVE, by_rows


class CLIP(SimilarityLoss):
    """Symmetric InfoNCE. Terms: "image_to_text" and "text_to_image", the two halves."""

    description = "softmax over the batch in both directions: each image picks its text, each text its image"
    paper = "arXiv:2103.00020"
    formula = (
        r"\frac{1}{2B}\sum_i\left[-\log\frac{e^{S_{ii}/\tau}}{\sum_j e^{S_{ij}/\tau}}"
        r"-\log\frac{e^{S_{ii}/\tau}}{\sum_j e^{S_{ji}/\tau}}\right]"
    )
    stream_above = STREAM_ABOVE

    def __init__(
        self,
        temperature: float = 0.01,
        geometry: Geometry | None = None,
        scale: str = "paper",
        learn_temperature: bool = False,
    ):
        super().__init__(temperature, geometry, scale, learn_temperature)

    def objective(self, similarity: Tensor) -> dict[str, Tensor]:
        logits = similarity / self.temperature
        target = torch.arange(len(logits), device=logits.device)
        return {
            "image_to_text": cross_entropy(logits, target) / 2,
            "text_to_image": cross_entropy(logits.T, target) / 2,
        }

    def streamed(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        tau = self.temperature

        def block(first: int, image_rows: Tensor) -> tuple[Tensor, ...]:
            logits = self.geometry.similarity(image_rows, text) / tau
            return logits.logsumexp(1), logits.logsumexp(0), logits.diagonal(first)

        others = (text, tau, *self.geometry.parameters())
        rows, columns, own = by_rows(block, ("rows", "columns", "rows"), [image], others)
        return {"image_to_text": (rows - own).mean() / 2, "text_to_image": (columns - own).mean() / 2}
