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
from clipedu.losses.streamed import by_rows


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
        learn_temperature: bool = False,
    ):
        super().__init__(temperature, geometry, scale, learn_temperature)
        self.cross = number("cross", cross, at_least=0)
        self.in_modal = number("in_modal", in_modal, at_least=0)

    def objective(self, similarity: Tensor) -> dict[str, Tensor]:
        asymmetry = similarity - similarity.T
        return {
            "clip": sum(super().objective(similarity).values()),
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

        def block(first: int, image_rows: Tensor, text_rows: Tensor) -> tuple[Tensor, ...]:
            later_image, later_text = image[first:], text[first:]  # what came before is in the mirror cells
            asymmetry = similarity(image_rows, later_text) - similarity(later_image, text_rows).T
            difference = similarity(image_rows, later_image) - similarity(text_rows, later_text)
            return sum_with_mirror(asymmetry.square()), sum_with_mirror(difference.square())

        others = (image, text, *self.geometry.parameters())
        cross, in_modal = (total / len(image) for total in by_rows(block, ("sum", "sum"), [image, text], others))
        return {
            "clip": sum(super().streamed(image, text, index).values()),
            "cross": self.cross * cross,
            "in_modal": self.in_modal * in_modal,
        }


def sum_with_mirror(upper: Tensor) -> Tensor:
    """Sum of a block [C, C + rest] of a symmetric matrix and of the mirror image of its rest, [rest, C]."""
    return 2 * upper.sum() - upper[:, : len(upper)].sum()
