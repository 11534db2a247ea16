"""Inputs with known answers, and what is measured on them. All float64.

The answers in the tests were computed independently in numpy with gradients in closed form, to ten digits.

    set A (D = 3), set A6 (D = 5):  x_ij = sin(1.3 i + 0.7 j + 0.1),  y_ij = cos(0.9 i - 0.4 j + 0.2)
    set C (D = 4, aligned pairs):   x as above, y = x + 0.35 * (y as above)

L is the value; gX, gY are norms of the gradients with respect to the *normalised* rows as free variables; cX, cY sums
of cos(i + 2 j) * gradient_ij; rX, rY norms of the gradients with respect to the raw rows, through the normalisation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipedu.geometry import Geometry
from clipedu.losses import build_loss

COLLAPSED = torch.tensor([[0.6, 0.8, 0.0]], dtype=torch.float64).expand(4, 3)
ROWS = torch.arange(4)


class Dot(Geometry):
    """The inner product as it is, so that gradients are those of normalised rows as free variables."""

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ y.T


def oracle_set(name: str, step: int = 0) -> tuple[Tensor, Tensor]:
    """Raw image and text rows of a set; `step` k takes the k-th batch of rows."""
    size, dim = {"A": (4, 3), "A6": (6, 5), "C": (5, 4)}[name]
    i = torch.arange(step * size, (step + 1) * size, dtype=torch.float64)[:, None]
    j = torch.arange(dim, dtype=torch.float64)[None, :]
    x, y = torch.sin(1.3 * i + 0.7 * j + 0.1), torch.cos(0.9 * i - 0.4 * j + 0.2)
    return (x, x + 0.35 * y) if name == "C" else (x, y)


def random_pairs(seed: int, size: int = 5, dim: int = 3, closeness: float = 0.5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, dim, generator=generator, dtype=torch.float64)
    return x, x * closeness + torch.randn(size, dim, generator=generator, dtype=torch.float64)


def cosines(x: Tensor, y: Tensor) -> list[list[float]]:
    """S as nested lists, typed out: for naive versions."""
    return [[float(a @ b / (a.norm() * b.norm())) for b in y] for a in x]


def gradients(loss, x: Tensor, y: Tensor, index: Tensor) -> tuple[float, Tensor, Tensor]:
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    total = loss(x, y, index).total
    total.backward()
    return total.item(), x.grad, y.grad


def checksum(gradient: Tensor) -> float:
    i = torch.arange(len(gradient), dtype=torch.float64)[:, None]
    j = torch.arange(gradient.shape[1], dtype=torch.float64)[None, :]
    return (torch.cos(i + 2 * j) * gradient).sum().item()


class Probe:
    """One loss twice: on normalised rows with `Dot`, and on raw rows with the default geometry."""

    def __init__(self, name: str, **options):
        self.free = build_loss(name, geometry=Dot(), **options).double()
        self.raw = build_loss(name, **options).double()
        self.both = (self.free, self.raw)

    def step(self, x: Tensor, y: Tensor, index: Tensor) -> list[float]:
        """[L, gX, gY, cX, cY, rX, rY]"""
        total, gx, gy = gradients(self.free, normalize(x), normalize(y), index)
        same, rx, ry = gradients(self.raw, x, y, index)
        assert abs(total - same) < 1e-12 * max(1, abs(total))
        return [
            total,
            *(g.norm().item() for g in (gx, gy)),
            checksum(gx),
            checksum(gy),
            *(r.norm().item() for r in (rx, ry)),
        ]


def numbers(line: str) -> list[float]:
    return [float(word) for word in line.split()]


def assert_close(actual, expected, rtol: float = 1e-9, atol: float = 1e-14) -> None:
    actual = torch.as_tensor(actual, dtype=torch.float64)
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=True)
