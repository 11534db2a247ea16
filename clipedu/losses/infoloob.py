r"""InfoLOOB, the loss of CLOOB: the bound leaves the positive out.

Fuerst et al. 2021, arXiv:2110.11316.

$$ L = \frac{\tau}{B} \sum_i \Big[ \log \sum_{j \ne i} e^{(S_{ij}-S_{ii})/\tau}
                              + \log \sum_{j \ne i} e^{(S_{ji}-S_{ii})/\tau} \Big] $$

"Leave one out bound": an upper bound of the mutual information, while InfoNCE is a lower bound that saturates at log B.
It equals 2 tau times DCL, derived in another way; and its gradient is that of SogCLR at an anchor's first visit, before
there is any memory. Three papers, one gradient: a good exercise.

The gradient: every anchor has pull and push 1 / B per direction, always (see `dcl.py`). The factor tau is the authors'
own; it makes the gradient about 2 tau times CLIP's.

A learned temperature only falls: dL/dtau is the entropy of the softmax over the negatives (both directions), never
negative, and at the bottom of its range the soft maximum is the hardest negative alone. CLOOB keeps tau fixed: do the
same.

CLOOB applies it to embeddings *retrieved* from a Hopfield network that stores the batch. That step is left out here.
"""

from __future__ import annotations

from torch import Tensor

from clipedu.losses.dcl import DCL


class InfoLOOB(DCL):
    """Leave-one-out bound in the authors' scale, 2 tau * DCL.

    Terms: "image_to_text", "text_to_image".
    """

    description = "leave-one-out bound of CLOOB (without its Hopfield retrieval): 2 tau times DCL"
    paper = "arXiv:2110.11316"
    formula = (
        r"\frac{\tau}{B}\sum_i\left[\log\sum_{j\neq i}e^{(S_{ij}-S_{ii})/\tau}"
        r"+\log\sum_{j\neq i}e^{(S_{ji}-S_{ii})/\tau}\right]"
    )

    @property
    def clip_scale(self) -> float | Tensor:
        """The factor 1 / (2 tau), which makes it DCL."""
        return 1 / (2 * self.temperature_value)

    def objective(self, similarity: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        return {name: 2 * self.temperature * term for name, term in super().objective(similarity).items()}

    def streamed(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        return {name: 2 * self.temperature * term for name, term in super().streamed(image, text, index).items()}
