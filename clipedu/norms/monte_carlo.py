r"""Monte-Carlo chains: weights moved along gradients of pure noise.

Each row of a tensor [chains, size] is a weight w of its own. At each step it gets a fresh Gaussian gradient g, and with
alpha the weight of the newest gradient

    x <- (1 - alpha) x + alpha g,    u = normalise(x),    w <- (1 - shrink) w - lr u

The scale is such that E||u||^2 = 1 whatever the normaliser. The buffer x begins as full as it will stay, so that it has no
transient of its own. `random_walks.py` runs the chains beside their theory.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from clipedu.optim.lmo import polar

BETA2 = 0.999  # of the normaliser "adam"


class NoiseUpdates:
    """Updates u [chains, size] of mean square 1, made of Gaussian gradients.

    Args:
        normaliser: one of `clipedu.norms.contribution.NORMALISERS`.
        alpha: weight of the newest gradient, in (0, 1].
        like: the weights, [chains, size]; for their shape and dtype.
        matrix: rows and columns of a weight, for "polar".
        seed: of the gradients.
        gradient: size of the gradients that fill the buffer at first: 1, or 1 / ||w|| for a scale-invariant layer.
    """

    def __init__(
        self,
        normaliser: str,
        alpha: float,
        like: Tensor,
        *,
        matrix: tuple[int, int] | None = None,
        seed: int = 0,
        gradient: float = 1.0,
    ):
        self.normaliser, self.alpha, self.matrix = normaliser, alpha, matrix
        self.generator = np.random.default_rng(seed)  # draws normals three times as fast as torch
        self.gradient = torch.empty_like(like)
        self.buffer = self._draw().clone() * gradient * math.sqrt(alpha / (2 - alpha))
        self.squares = torch.ones_like(like)
        self.scale = math.sqrt((2 - alpha) / (alpha * like.shape[1]))  # of a buffer, to mean square 1

    def _draw(self) -> Tensor:
        self.generator.standard_normal(out=self.gradient.numpy(), dtype=self.gradient.numpy().dtype)
        return self.gradient

    def next(self, w: Tensor, length: Tensor | None = None) -> Tensor:
        """Return the update of the next step, [chains, size].

        Args:
            w: the weights before the step, [chains, size].
            length: ||w||, [chains, 1], for a scale-invariant layer: the gradient is then orthogonal to w and of size 1 / ||w||.
        """
        g = self._draw()
        if length is not None:
            across = math.sqrt(w.shape[1] / (w.shape[1] - 1))  # one direction less to be random in
            g.addcmul_((g * w).sum(1, keepdim=True) / length**2, w, value=-1).mul_(across / length)
        self.buffer.lerp_(g, self.alpha)
        if self.normaliser == "adam":
            self.squares.lerp_(g.square_(), 1 - BETA2)
        return self._normalise()

    def _normalise(self) -> Tensor:
        x = self.buffer
        if self.normaliser == "none":
            return x * self.scale
        if self.normaliser == "adam":
            return x / self.squares.sqrt() * self.scale
        if self.normaliser == "sign":
            return x.sign() / math.sqrt(x.shape[1])
        if self.normaliser == "polar" and self.matrix is not None:
            x = polar(x.view(-1, *self.matrix)).flatten(1)
        return x / torch.linalg.vector_norm(x, dim=1, keepdim=True)

    def align(self, w: Tensor, amount: float) -> None:
        """Turn the weights in place to a given alignment with the buffer.

        Afterwards <w, u> = -`amount` for the unit update u of the buffer; their lengths stay.
        """
        length, u = torch.linalg.vector_norm(w, dim=1, keepdim=True), self._normalise()
        u = u / torch.linalg.vector_norm(u, dim=1, keepdim=True)
        w -= (w * u).sum(1, keepdim=True) * u
        w *= (length**2 - amount**2).sqrt() / torch.linalg.vector_norm(w, dim=1, keepdim=True)
        w -= amount * u


def walk_chains(
    updates: NoiseUpdates,
    w: Tensor,
    lr: np.ndarray,
    shrink: np.ndarray,
    recorded: set[int],
    *,
    renormalised: bool = False,
    scale_invariant: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Walk the chains; return ||w||^2 after and cos(w, u) before a step.

    Both are of each recorded step: [records, chains], float64.

    Args:
        updates: where the updates come from.
        w: the weights, [chains, size]; changed in place.
        lr, shrink: of each step, [steps].
        recorded: numbers of the steps to record, from 0.
        renormalised: a step keeps its direction, but its length is the part along the old weight.
        scale_invariant: gradients are orthogonal to w and of size 1 / ||w||.
    """
    squared, cosine = [], []
    for t, (rate, share) in enumerate(zip(lr.tolist(), shrink.tolist(), strict=True)):
        if not (renormalised or scale_invariant or t in recorded):
            u = updates.next(w)
            w.mul_(1 - share).sub_(u, alpha=rate)
            continue
        length = torch.linalg.vector_norm(w, dim=1, keepdim=True)
        u = updates.next(w, length if scale_invariant else None)
        along = (w * u).sum(1, keepdim=True) / length.clamp_min(1e-30)  # u's part along w
        w.mul_(1 - share).sub_(u, alpha=rate)
        if renormalised:
            ratio = ((1 - share) * length - rate * along) / torch.linalg.vector_norm(w, dim=1, keepdim=True)
            w *= torch.where((ratio > 0) & (length > 0), ratio, 1.0)  # no such length: the plain step
        if t in recorded:
            squared.append(w.double().square().sum(1))
            cosine.append((along / torch.linalg.vector_norm(u, dim=1, keepdim=True)).squeeze(1).double())
    return torch.stack(squared).numpy(), torch.stack(cosine).numpy()
