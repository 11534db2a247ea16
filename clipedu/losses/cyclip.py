r"""CyCLIP: CLIP, plus a demand that the two towers agree about distances (Goel et al. 2022, arXiv 2205.14459).

$$ L = L_{\mathrm{CLIP}}
     + \lambda_{\mathrm{cross}} \frac{1}{B} \sum_{jk} (S_{jk} - S_{kj})^2
     + \lambda_{\mathrm{in}} \frac{1}{B} \sum_{jk} \big( s(x_j, x_k) - s(y_j, y_k) \big)^2 $$

- *cross*: image j is as similar to text k as image k is to text j. S is pressed to be symmetric.
- *in-modal*: two images are as similar to each other as their two texts are.

Neither term divides by the temperature. They are sums over B^2 pairs divided by B, so they grow with the batch.

The gradient: the cross part of dL/dS is 4 l (S - S^T) / B, an antisymmetric matrix: red and blue mirror pairs in the
heat map. The in-modal term acts inside each tower, 4 l (X X^T - Y Y^T) X / B, where no heat map of S can show it. Both
stay alive after CLIP's own gradient has died out on pairs that are won.
"""

from __future__ import annotations

from torch import Tensor

from clipedu.geometry import Geometry
from clipedu.losses.base import number
from clipedu.losses.clip import CLIP


class CyCLIP(CLIP):
    """CLIP plus cross-modal and in-modal consistency, with these two weights. Terms: "clip", "cross", "in_modal"."""

    description = "CLIP plus consistency: symmetric similarities, and equal distances within images and within texts"
    paper = "arXiv:2205.14459"
    formula = (
        r"L_{\mathrm{CLIP}}+\frac{\lambda_{\mathrm{cross}}}{B}\sum_{jk}(S_{jk}-S_{kj})^2"
        r"+\frac{\lambda_{\mathrm{in}}}{B}\sum_{jk}\left(s(x_j,x_k)-s(y_j,y_k)\right)^2"
    )

    def __init__(
        self,
        temperature: float = 0.01,
        geometry: Geometry | None = None,
        cross: float = 0.25,
        in_modal: float = 0.25,
        scale: str = "paper",
    ):
        super().__init__(temperature, geometry, scale)
        self.cross = number("cross", cross, at_least=0)
        self.in_modal = number("in_modal", in_modal, at_least=0)

    def objective(self, similarity: Tensor) -> dict[str, Tensor]:
        asymmetry = similarity - similarity.T
        return {
            "clip": sum(super().objective(similarity).values()),
            "cross": self.cross * asymmetry.square().sum() / len(similarity),
        }

    def terms(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        difference = self.geometry.similarity(image, image) - self.geometry.similarity(text, text)
        in_modal = self.in_modal * difference.square().sum() / len(difference)
        return super().terms(image, text, index) | {"in_modal": in_modal}
