r"""Gaussian discriminant analysis: a classifier without training.

Wang et al. 2024, "A Hard-to-Beat Baseline for Training-free CLIP-based Adaptation", arXiv:2402.04087. The image features of each class
c are taken as normal around a mean $\mu_c$ of its own, with one covariance $\Sigma$ for all. Bayes' rule then gives a linear classifier:

$$ \ell_c(x) = w_c \cdot x + b_c, \qquad w_c = \Sigma^{-1} \mu_c, \qquad b_c = \log p_c - \tfrac12 \mu_c^T \Sigma^{-1} \mu_c $$

With few pictures and many features the sample covariance has no inverse. Their estimate of it (Kubokawa and Srivastava 2008), with
the sample covariance $S$ of N deviations from class means, in F dimensions, is

$$ \Sigma^{-1} = F \, \big( (N - 1) S + \mathrm{tr}(S) \, I \big)^{-1} $$

The zero-shot classifier knows what the text says of a class, this one what its pictures look like. Their logits are added, with a weight
$\alpha$ that is chosen on pictures held out:

$$ \text{logits} = s \cdot \text{similarity}(x, \text{text}_c) + \alpha \, \ell_c(x) $$

The classes are taken as equally frequent, $p_c = 1 / C$.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clipedu.utils.errors import ClipeduError


@dataclass(frozen=True)
class GDA:
    """A fitted classifier.

    Attributes:
        weight: float64 [C, F].
        bias: float64 [C].
    """

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Return log-densities up to a constant, [M, F] -> float64 [M, C]."""
        return features.double() @ self.weight.T + self.bias


def fit_gda(features: Tensor, labels: Tensor, classes: int, *, estimator: str = "ks") -> GDA:
    """Fit class means and one shared covariance.

    Where each class has one picture nothing deviates from its class mean. The covariance is then that of a ball, and the nearest
    mean wins.

    Args:
        features: [N, F].
        labels: int64 [N], 0..classes-1; each class is there.
        classes: C.
        estimator: of the inverse covariance: "ks", as above; "plain" inverts the sample covariance (its pseudo-inverse), as linear
            discriminant analysis does.
    Raises:
        ClipeduError: a class without pictures, or another estimator.
    """
    if estimator not in ("ks", "plain"):
        raise ClipeduError(f"unknown estimator {estimator!r} of a covariance. Allowed: ks, plain")
    x = features.double()
    counts = torch.bincount(labels, minlength=classes)
    if len(counts) > classes or not counts.all():
        raise ClipeduError(
            f"each of {classes} classes needs a picture, and labels 0 to {classes - 1}: found {counts.tolist()}"
        )
    means = torch.zeros(classes, x.shape[1], dtype=x.dtype).index_add_(0, labels, x) / counts[:, None]
    deviations = x - means[labels]
    inverse = _plain(deviations) if estimator == "plain" else _ks(deviations)
    if counts.max() == 1:
        spread = (x - x.mean(0)).square().mean().clamp(min=1e-12)
        inverse = torch.eye(x.shape[1], dtype=x.dtype) / spread
    weight = means @ inverse
    return GDA(weight, -(weight * means).sum(1) / 2 - torch.log(torch.tensor(float(classes), dtype=x.dtype)))


def _plain(deviations: Tensor) -> Tensor:
    return torch.linalg.pinv(deviations.T @ deviations / len(deviations), hermitian=True)


def _ks(deviations: Tensor) -> Tensor:
    count, width = deviations.shape
    scatter = deviations.T @ deviations  # (N - 1) S
    ball = scatter.trace() / max(1, count - 1) * torch.eye(width, dtype=deviations.dtype)
    return width * torch.linalg.pinv(scatter + ball, hermitian=True)
