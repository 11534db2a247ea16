r"""Entailment: the image should lie in the cone of its caption.

A caption is more general than the image it describes, and a cone holds what its apex entails:

$$ L = L_{\mathrm{contrastive}} + \lambda \cdot \frac{1}{B} \sum_i
       \max\big( 0, \mathrm{ext}(y_i, x_i) - \mathrm{aper}(y_i) \big) $$

Every text y is the apex of a cone that opens away from the root. Its half-aperture, aper, is narrow far from the root
(specific texts) and opens near it (generic ones); the exterior angle, ext, is the angle between the cone's axis and the
image x. An image inside costs nothing. The angles are the geometry's (`half_aperture`, `exterior_angle`); K, the
`min_radius`, sets where a cone opens fully, to half the space. A small K from the start can be unstable; a K that
shrinks over the run (0.3 -> 0.1) is what EuCLIP's authors use. K = 0 is no cone: the mean exterior angle.

It can be added to any loss that is computed from similarities. Sources: Ganea et al. 2018 (arXiv:1804.01882), MERU
(Desai et al. 2023, arXiv:2304.09172: lambda 0.2, K 0.1), EuCLIP (Chou and Alam 2024, arXiv:2409.13079).

Two things to watch. Cones at a fixed K are not comparable between geometries or curvatures. And lower curvature widens
every hyperbolic cone, so this loss pulls a learned curvature down.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clipedu.geometry import Geometry
from clipedu.losses.base import Loss, LossOutput, SimilarityLoss
from clipedu.losses.distributed import gather
from clipedu.utils.checks import checked_number
from clipedu.utils.errors import ClipeduError

LARGEST = 1e18  # of a radius: its square is finite in float32


class Entailed(Loss):
    """A contrastive loss with the entailment term added.

    Terms: those of `loss`, and "entailment" (times the weight).

    Watch: "entailment_angle", the mean residual in radians, unweighted; "entailed", the share of images inside their
    caption's cone; "saturated", the share of captions whose cone is half the space and so holds any image.

    Args:
        loss: a loss that is computed from similarities; its geometry must have cones.
        weight: lambda, >= 0.
        min_radius: K at the start, 0 to 1e18.
        final_min_radius: K at the end, reached linearly with `progress`; None: K is constant.

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
        self.weight = checked_number("weight", weight, at_least=0)
        self.first = checked_number("min_radius", min_radius, at_least=0, at_most=LARGEST)
        self.last = self.first
        if final_min_radius is not None:
            self.last = checked_number("final_min_radius", final_min_radius, at_least=0, at_most=LARGEST)

    @property
    def geometry(self) -> Geometry:
        return self.loss.geometry

    @property
    def min_radius(self) -> float:
        """K at this `progress`."""
        return self.first + (self.last - self.first) * self.progress

    def forward(self, image: Tensor, text: Tensor, index: Tensor) -> LossOutput:
        """Compute the loss of a batch.

        Args and Raises as in `Loss.forward`.
        """
        self.loss.progress = self.progress
        output = self.loss(image, text, index)
        image, text, index = self.prepare(image, text, index)
        if self.training:
            image, text, _ = gather(image, text, index)
        residual = self.geometry.entailment(text, image, self.min_radius)
        term = self.weight * residual.mean()
        watch = {"entailment_angle": residual.detach().mean()}
        if self.min_radius > 0:
            aperture = self.geometry.half_aperture(text.detach(), self.min_radius)
            watch["entailed"] = (residual.detach() <= 0).to(residual.dtype).mean()
            watch["saturated"] = (aperture > math.pi / 2 - 1e-3).to(residual.dtype).mean()
        return LossOutput(output.total + term, output.terms | {"entailment": term.detach()}, output.watch | watch)

    def pair_weights(self, image: Tensor, text: Tensor, index: Tensor) -> Tensor:
        """Compute dL/dS of the contrastive part.

        Args and Raises as in `Loss.pair_weights`. The entailment term does not depend on S.
        """
        return self.loss.pair_weights(image, text, index)
