r"""SigLIP: a binary classification of every pair, without a softmax.

Zhai et al. 2023, arXiv:2303.15343.

$$ L = \frac{1}{B} \sum_{ij} \log \big( 1 + e^{-z_{ij} (t S_{ij} + c)} \big), \qquad
   z_{ij} = +1 \text{ if } i = j, \; -1 \text{ otherwise} $$

"Do image i and text j belong together?" is answered with probability sigmoid(t S_ij + c). No normaliser couples the
pairs, so batches can be cut into chunks. There are B - 1 times more "no" than "yes": the bias c starts at -10, so that
"no" is the first guess and the many negatives do not dominate the first steps. Scale t = e^{t'} and bias c are
*learned*, always: `logit_scale` = t' and `bias` are parameters of the loss, and the optimizer needs them too.

The gradient: dL/dS = -z t sigmoid(-z (t S + c)) / B, pair by pair: a negative's weight does not depend on how hard the
others are. At the start nearly all weight is on the diagonal. At collapse, S = 1, t = 10 and c = -10, the loss is B log
2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from clipedu.geometry import Cosine, Geometry
from clipedu.losses.base import SimilarityLoss
from clipedu.losses.margins import without_positives
from clipedu.losses.streaming import STREAM_ABOVE, Part, by_tiles, tile_negatives, tile_positives
from clipedu.utils.checks import checked_number


class SigLIP(SimilarityLoss):
    """Pairwise sigmoid loss with learned scale and bias.

    Terms: "positives", "negatives".

    Args:
        temperature: initial value of 1 / t.
        geometry, scale: see `SimilarityLoss`.
        bias: initial value of c.
        max_scale: the largest t; None is the geometry's, 100 as CLIP has it. SigLIP's authors have no limit, and their released models go beyond it.
    """

    description = "a yes-or-no question for every image-text pair, with learned scale and bias"
    paper = "arXiv:2303.15343"
    formula = r"\frac{1}{B}\sum_{ij}\log\left(1+e^{-z_{ij}(t\,S_{ij}+c)}\right),\quad z_{ij}=+1\ (i=j),\ -1\ (i\neq j)"
    stream_above = STREAM_ABOVE

    def __init__(
        self,
        temperature: float = 0.1,
        geometry: Geometry | None = None,
        bias: float = -10.0,
        scale: str = "paper",
        max_scale: float | None = None,
    ):
        limits = None
        if max_scale is not None:
            low = (Cosine() if geometry is None else geometry).logit_scale_range[0]
            limits = (low, math.log(checked_number("max_scale", max_scale, above=math.exp(low))))
        super().__init__(temperature, geometry, scale, learn_temperature=True, scale_range=limits)
        self.bias = nn.Parameter(torch.tensor(checked_number("bias", bias)))

    def watched(self) -> dict[str, Tensor]:
        return super().watched() | {"bias": self.bias}

    def objective(self, similarity: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        logits = similarity / self.temperature + self.bias
        return {
            "positives": softplus(-logits.diagonal()).sum() / len(logits),
            "negatives": softplus(without_positives(logits)).sum() / len(logits),
        }

    def streamed(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        tau = self.temperature

        def tile(a: Part, b: Part) -> tuple[Tensor | None, ...]:
            logits = self.geometry.similarity(a.image, b.text) / tau + self.bias
            return tile_positives(logits, a, b), softplus(tile_negatives(logits, a, b)).sum()

        learned = (tau, self.bias, *self.geometry.parameters())
        positives, total = by_tiles(tile, ("positives", "sum"), image, text, learned)
        return {"positives": softplus(-positives).mean(), "negatives": total / len(image)}
