r"""DCL, decoupled contrastive learning: no positive in the denominator.

Yeh et al. 2021, arXiv:2110.06848.

$$ L = \frac{1}{2B} \sum_i \Big[ \log \sum_{j \ne i} e^{(S_{ij}-S_{ii})/\tau}
                             + \log \sum_{j \ne i} e^{(S_{ji}-S_{ii})/\tau} \Big] $$

CLIP's gradient on an anchor has the factor 1 - P_ii, "how far from won": it couples the pull on the positive to how
easy the negatives are, and vanishes once the pair is won. Leaving the positive out removes exactly that factor.

The gradient: dL/dS = (P + Q - 2 I) / (2 B tau) with P and Q softmaxes over the *negatives* only: every anchor has pull
and push 1 / (2 B tau) per direction, always. The value has no lower bound. At collapse it is log(B - 1).

A learned temperature has no optimum: dL/dtau is minus the mean margin of the negatives (softmax over them) / tau^2. As
soon as the pairs win on average, L falls without bound as tau goes to 0, and tau goes to the bottom of its range.

This is the cross-modal form: only image-text pairs are negatives. (The paper has two views of one modality, and takes
negatives within a view too.)
"""

from __future__ import annotations

from torch import Tensor

from clipedu.losses.base import SimilarityLoss
from clipedu.losses.margins import log_sum_negatives
from clipedu.losses.streaming import STREAM_ABOVE, negatives_by_tiles


class DCL(SimilarityLoss):
    """InfoNCE with the positive left out of the denominator.

    Terms: "image_to_text", "text_to_image".
    """

    description = "CLIP without the positive in the denominator: easy pairs keep their gradient"
    paper = "arXiv:2110.06848"
    formula = (
        r"\frac{1}{2B}\sum_i\left[\log\sum_{j\neq i}e^{(S_{ij}-S_{ii})/\tau}"
        r"+\log\sum_{j\neq i}e^{(S_{ji}-S_{ii})/\tau}\right]"
    )
    stream_above = STREAM_ABOVE

    def objective(self, similarity: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        image, text = log_sum_negatives(similarity / self.temperature).mean(-1)
        return {"image_to_text": image / 2, "text_to_image": text / 2}

    def streamed(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        image, text = negatives_by_tiles(self.geometry, image, text, self.temperature)[0].mean(-1)
        return {"image_to_text": image / 2, "text_to_image": text / 2}
