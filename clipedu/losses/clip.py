r"""CLIP: softmax cross-entropy over the batch, both directions (InfoNCE; Radford et al. 2021, arXiv:2103.00020).

$$ L = \frac{1}{2B} \sum_i \Big[ -\log \frac{e^{S_{ii}/\tau}}{\sum_j e^{S_{ij}/\tau}}
                                 -\log \frac{e^{S_{ii}/\tau}}{\sum_j e^{S_{ji}/\tau}} \Big] $$

Read it as a quiz with B answers. Given image i, which of the B texts is its own (first part; rows of S)? Given text i,
which image (second part; columns)? The temperature says how sure a given lead in similarity makes the answer.

The gradient: with P the row softmax and Q the column softmax of S / tau, dL/dS = (P + Q - 2 I) / (2 B tau). Each anchor
has a pull on its own pair of 1 - P_ii and the same amount of push, spread over the others as the softmax spreads them:
hard negatives get nearly all. Once a pair has won (P_ii = Q_ii = 1) its weight is gone: easy pairs go dark. At tau =
0.01 that happens at a margin of about 0.1. The total push is at most 1 / tau.

If all similarities are equal (a collapsed model, or pure guessing) the loss is log B.

A learned temperature (`learn_temperature=True`, as CLIP itself has it) falls while the pairs win, which sharpens the
quiz, and rises while they lose, which pays for being wrong with being unsure. A model that is always right sends it to
the bottom of its range (0.01 in cosine geometry).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import log_softmax

from clipedu.geometry import Geometry
from clipedu.losses.base import SimilarityLoss
from clipedu.losses.streaming import STREAM_ABOVE, Part, by_tiles, own_pairs


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
        return {
            "image_to_text": -log_softmax(logits, dim=1).diagonal().mean() / 2,
            "text_to_image": -log_softmax(logits, dim=0).diagonal().mean() / 2,
        }

    def streamed(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        tau = self.temperature

        def tile(a: Part, b: Part) -> tuple[Tensor | None, ...]:
            logits = self.geometry.similarity(a.image, b.text) / tau
            return logits.logsumexp(1), logits.logsumexp(0), own_pairs(logits, a, b)

        kinds = ("rows", "columns", "own")
        rows, columns, own = by_tiles(tile, kinds, image, text, (tau, *self.geometry.parameters()))
        return {"image_to_text": (rows - own).mean() / 2, "text_to_image": (columns - own).mean() / 2}
