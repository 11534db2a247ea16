r"""CyCLIP: CLIP, plus consistency of the similarities across modalities.

Goel et al. 2022, arXiv:2205.14459.

$$ L = L_{\mathrm{CLIP}}
     + \lambda_{\mathrm{cross}} \frac{1}{B} \sum_{jk} (S_{jk} - S_{kj})^2
     + \lambda_{\mathrm{in}} \frac{1}{B} \sum_{jk} \big( s(x_j, x_k) - s(y_j, y_k) \big)^2 $$

- *cross*: image j is as similar to text k as image k is to text j. S becomes symmetric.
- *in-modal*: two images are as similar to each other as their two texts are.

Neither term divides by the temperature. They are sums over B^2 pairs divided by B, so they grow with the batch.

The gradient: the cross part of dL/dS is 4 l (S - S^T) / B, an antisymmetric matrix: in the heat map, pairs of
opposite sign mirrored at the diagonal. The in-modal term acts inside each modality, 4 l (X X^T - Y Y^T) X / B, and does
not show in a heat map of S. Both remain after CLIP's own gradient has vanished on pairs that are won.
"""

from __future__ import annotations

from torch import Tensor

from clipedu.geometry import Geometry
from clipedu.losses.base import add_up
from clipedu.losses.clip import CLIP
from clipedu.losses.streaming import Part, by_tiles
from clipedu.utils.checks import checked_number


class CyCLIP(CLIP):
    """CLIP plus cross-modal and in-modal consistency.

    Terms: "clip", "cross", "in_modal", weighted.

    Args:
        temperature, geometry, scale, learn_temperature: see `SimilarityLoss`.
        cross: weight of the cross-modal term, >= 0.
        in_modal: weight of the in-modal term, >= 0.
    """

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
        learn_temperature: bool = False,
    ):
        super().__init__(temperature, geometry, scale, learn_temperature)
        self.cross = checked_number("cross", cross, at_least=0)
        self.in_modal = checked_number("in_modal", in_modal, at_least=0)

    def objective(self, similarity: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        asymmetry = similarity - similarity.T
        return {
            "clip": add_up(super().objective(similarity).values()),
            "cross": self.cross * asymmetry.square().sum() / len(similarity),
        }

    def terms(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        terms = super().terms(image, text, index)
        if "in_modal" not in terms:
            difference = self.geometry.similarity(image, image) - self.geometry.similarity(text, text)
            terms["in_modal"] = self.in_modal * difference.square().sum() / len(difference)
        return terms

    def streamed(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        similarity = self.geometry.similarity

        def tile(a: Part, b: Part) -> tuple[Tensor, ...]:
            asymmetry = similarity(a.image, b.text) - similarity(b.image, a.text).T
            difference = similarity(a.image, b.image) - similarity(a.text, b.text)
            times = 1 if a.rows == b.rows else 2  # a tile above the diagonal also counts for its mirror image
            return times * asymmetry.square().sum(), times * difference.square().sum()

        learned = self.geometry.parameters()
        cross, in_modal = by_tiles(tile, ("sum", "sum"), image, text, learned, half=True)
        return {
            "clip": add_up(super().streamed(image, text, index).values()),
            "cross": self.cross * cross / len(image),
            "in_modal": self.in_modal * in_modal / len(image),
        }
