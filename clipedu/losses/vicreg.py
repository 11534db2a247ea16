r"""VICReg: no negatives; pull pairs together, decorrelate the dimensions.

Bardes et al. 2021, arXiv:2105.04906.

$$ L = \lambda\, \frac{1}{BD} \sum_{id} (x_{id} - y_{id})^2
     + \mu\, \tfrac{1}{2} \big[ v(X) + v(Y) \big] + \nu\, \big[ c(X) + c(Y) \big] $$
$$ v(X) = \frac{1}{D} \sum_d \max(0,\, 1 - \mathrm{sd}_d(X)) \qquad
   c(X) = \frac{1}{D} \sum_{d \ne e} \mathrm{Cov}(X)_{de}^2 $$

with sd = sqrt(var + 1e-4), and var and Cov over the batch with B - 1. The three terms:

- *invariance*: the two embeddings of a pair should be equal.
- *variance*: each dimension must vary by at least 1 over the batch. This prevents collapse, without negatives.
- *covariance*: two dimensions should not be correlated.

It takes the *raw* projections: on normalised rows the sd of a dimension is about 1 / sqrt(D), and the hinge never
closes. The size of an embedding is therefore part of what is learned, and no temperature appears.

The gradient on X: 2 lambda (X - Y) / (B D) from invariance; a push away from the batch mean in every dimension whose sd
is below 1; a rotation out of shared directions. No pair (i, j), i != j, appears: there is no dL/dS to draw. A collapsed
batch costs 25 * 0.99 = 24.75. Weights 25, 25, 1, the halves and the 1 / D are those of the authors' code.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from clipedu.losses.base import Loss
from clipedu.utils.checks import checked_number
from clipedu.utils.errors import ClipeduError


def invariance(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean squared difference of x and y [B, D], a scalar."""
    return mse_loss(x, y)


def variance(x: Tensor) -> Tensor:
    """Return how far standard deviations of x [B, D] fall short of 1.

    The result is a scalar, averaged over the dimensions.
    """
    deviation = torch.sqrt(x.var(dim=0) + 1e-4)
    return torch.relu(1 - deviation).mean()


def covariance(x: Tensor) -> Tensor:
    """Return the squared covariances of different dimensions of x [B, D].

    The result is a scalar: their sum, divided by D.
    """
    centred = x - x.mean(dim=0)
    matrix = centred.T @ centred / (len(x) - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / x.shape[1]


class VICReg(Loss):
    """VICReg on raw projections.

    Terms: "invariance", "variance", "covariance", weighted.

    Args:
        invariance, variance, covariance: weights of the three terms, >= 0.
    """

    description = "no negatives: pull pairs together, keep each dimension spread out and different from the others"
    paper = "arXiv:2105.04906"
    formula = (
        r"\frac{\lambda}{BD}\sum_{id}(x_{id}-y_{id})^2+\frac{\mu}{2}\left[v(X)+v(Y)\right]+\nu\left[c(X)+c(Y)\right],\quad "
        r"v(X)=\frac{1}{D}\sum_d\max(0,1-\mathrm{sd}_d(X)),\quad c(X)=\frac{1}{D}\sum_{d\neq e}\mathrm{Cov}(X)_{de}^2"
    )

    def __init__(self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0):
        super().__init__()
        self.invariance = checked_number("invariance", invariance, at_least=0)
        self.variance = checked_number("variance", variance, at_least=0)
        self.covariance = checked_number("covariance", covariance, at_least=0)

    def terms(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        return {
            "invariance": self.invariance * invariance(image, text),
            "variance": self.variance * (variance(image) + variance(text)) / 2,
            "covariance": self.covariance * (covariance(image) + covariance(text)),
        }

    def pair_weights(self, image: Tensor, text: Tensor, index: Tensor) -> Tensor:
        """Raise an error: VICReg has no pair weights.

        Args as in `Loss.pair_weights`; they are not used.

        Raises:
            ClipeduError: always.
        """
        raise ClipeduError(
            "vicreg has no pair weights: it never compares image i with text j. Look at the standard deviation of each "
            "dimension and at the D x D covariance matrix of the embeddings instead"
        )
