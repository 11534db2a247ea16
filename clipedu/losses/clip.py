r"""CLIP: softmax cross-entropy over the batch, both directions (InfoNCE).

Radford et al. 2021, arXiv:2103.00020.

$$ L = \frac{1}{2B} \sum_i \Big[ -\log \frac{e^{S_{ii}/\tau}}{\sum_j e^{S_{ij}/\tau}}
                                 -\log \frac{e^{S_{ii}/\tau}}{\sum_j e^{S_{ji}/\tau}} \Big] $$

It is classification with B classes. Given image i, which of the B texts is its positive (first part; rows of S)? Given
text i, which image (second part; columns)? The temperature sets how much probability a given lead in similarity earns.

The gradient: with P the row softmax and Q the column softmax of S / tau, dL/dS = (P + Q - 2 I) / (2 B tau). Each anchor
has a pull on its positive of 1 - P_ii and the same amount of push, spread over its negatives as the softmax spreads
them: hard negatives get nearly all. Once a pair is won (P_ii = Q_ii = 1) its weight is gone. At tau = 0.01 that happens
at a margin of about 0.1. The total push is at most 1 / tau.

If all similarities are equal (a collapsed model, or pure guessing) the loss is log B.

A learned temperature (`learn_temperature=True`, as CLIP itself has it) falls while the pairs win, which sharpens the
softmax, and rises while they lose, which lowers the cost of being wrong by being unsure. A model that is always right
drives it to the bottom of its range (0.01 in cosine geometry).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import log_softmax

from clipedu.losses.base import SimilarityLoss
from clipedu.losses.streaming import STREAM_ABOVE, Part, by_tiles, tile_positives


class CLIP(SimilarityLoss):
    """Symmetric InfoNCE. Terms: "image_to_text", "text_to_image"."""

    description = "softmax over the batch in both directions: each image picks its text, each text its image"
    paper = "arXiv:2103.00020"
    formula = (
        r"\frac{1}{2B}\sum_i\left[-\log\frac{e^{S_{ii}/\tau}}{\sum_j e^{S_{ij}/\tau}}"
        r"-\log\frac{e^{S_{ii}/\tau}}{\sum_j e^{S_{ji}/\tau}}\right]"
    )
    stream_above = STREAM_ABOVE

    def objective(self, similarity: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        logits = similarity / self.temperature
        return {
            "image_to_text": -log_softmax(logits, dim=1).diagonal().mean() / 2,
            "text_to_image": -log_softmax(logits, dim=0).diagonal().mean() / 2,
        }

    def streamed(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        tau = self.temperature

        def tile(a: Part, b: Part) -> tuple[Tensor | None, ...]:
            logits = self.geometry.similarity(a.image, b.text) / tau
            return logits.logsumexp(1), logits.logsumexp(0), tile_positives(logits, a, b)

        kinds = ("rows", "columns", "positives")
        rows, columns, positives = by_tiles(tile, kinds, image, text, (tau, *self.geometry.parameters()))
        return {"image_to_text": (rows - positives).mean() / 2, "text_to_image": (columns - positives).mean() / 2}
