r"""Entailment: a caption says less than its image shows, so the image should lie in the caption's cone.

$$ L = L_{\mathrm{contrastive}} + \lambda \cdot \frac{1}{B} \sum_i
       \max\big( 0, \mathrm{ext}(y_i, x_i) - \mathrm{aper}(y_i) \big) $$

Every text y is the apex of a cone that opens away from the root. Its half-aperture, aper, is narrow far from the root
(specific texts) and opens near it (generic ones); the exterior angle, ext, says how far off the cone's axis the image x
is. An image inside pays nothing. The angles are the geometry's (`half_aperture`, `exterior_angle`); K, the
`min_radius`, is where a cone opens fully: half the space. A small K from the start can be unstable; a K that shrinks over
the run (0.3 -> 0.1) is the remedy of EuCLIP's authors. K = 0 is no cone: the mean exterior angle.

It is added to any loss that rests on a similarity. Sources: Ganea et al. 2018 (arXiv:1804.01882), MERU (Desai et al.
2023, arXiv:2304.09172: lambda 0.2, K 0.1), EuCLIP (Chou and Alam 2024, arXiv:2409.13079).

Two things to watch. Cones at a fixed K are not comparable between geometries or curvatures. And lower curvature widens
every hyperbolic cone, so this loss pulls a learned curvature down.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clipedu.geometry import Geometry
from clipedu.losses.base import Loss, LossOutput, SimilarityLoss, number
from clipedu.utils.errors import ClipeduError


class Entailed(Loss):
    """A contrastive loss with the entailment term added. Terms: those of `loss`, and "entailment" (times the weight).

    Watch: "entailment_angle", the mean residual in radians, unweighted; "entailed", the share of images inside their
    caption's cone; "saturated", the share of captions whose cone is half the space and so holds any image.

    Args:
        loss: a loss that rests on a similarity; its geometry must have cones.
        weight: lambda, >= 0.
        min_radius: K at the start, >= 0.
        final_min_radius: K at the end, reached linearly with `progress`; None: it stays.
    Raises:
        ClipeduError: a geometry without cones, a loss without geometry, or a value out of range.
    """

    def __init__(self, loss: Loss, weight: float, *, min_radius: float = 0.1, final_min_radius: float | None = None):
        super().__init__()
        if not isinstance(loss, SimilarityLoss):
            raise ClipeduError(
                f"{type(loss).__name__.lower()} rests on no similarity, so it has no geometry to entail in"
            )
        loss.geometry.half_aperture(torch.zeros(1, 2))  # raises where there are no cones
        self.loss = loss
        self.weight = number("weight", weight, at_least=0)
        self.first = number("min_radius", min_radius, at_least=0)
        self.last = self.first if final_min_radius is None else number("final_min_radius", final_min_radius, at_least=0)

    @property
    def geometry(self) -> Geometry:
        return self.loss.geometry

    @property
    def min_radius(self) -> float:
        """K now, at this `progress`."""
        return self.first + (self.last - self.first) * self.progress

    def forward(self, image: Tensor, text: Tensor, index: Tensor) -> LossOutput:
        """As every loss's forward. The angles are those of this process's own pairs; their gradient is averaged."""
        self.loss.progress = self.progress
        output = self.loss(image, text, index)
        image, text, _ = self.prepare(image, text, index)
        residual = self.geometry.entailment(text, image, self.min_radius)
        term = self.weight * residual.mean()
        watch = {"entailment_angle": residual.detach().mean()}
        if self.min_radius > 0:
            aperture = self.geometry.half_aperture(text.detach(), self.min_radius)
            watch["entailed"] = (residual.detach() <= 0).to(residual.dtype).mean()
            watch["saturated"] = (aperture > math.pi / 2 - 1e-3).to(residual.dtype).mean()
        return LossOutput(output.total + term, output.terms | {"entailment": term.detach()}, output.watch | watch)

    def pair_weights(self, image: Tensor, text: Tensor, index: Tensor) -> Tensor:
        """dL/dS of the contrastive part; the entailment term does not see S."""
        return self.loss.pair_weights(image, text, index)
