"""The losses that ours are measured against: open_clip's and the course's.

The course's are its formulas, typed out naively. Every contender, ours too, is a function of raw projections and row
numbers, `(image [B, D], text [B, D], index [B]) -> scalar loss`, so that all times include normalisation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, relu

from clipedu.losses import build_loss
from clipedu.utils.errors import ClipeduError

Contender = Callable[[Tensor, Tensor, Tensor], Tensor]
TEMPERATURE = 0.07
GAMMA = 0.8


def contender(source: str, loss: str, num_samples: int, device: torch.device | str = "cpu") -> Contender:
    """Return the loss called `loss` of one source, as a function.

    Args:
        source: "clipedu", "open_clip" (clip, siglip), or "course" (its five losses, typed out).
        loss: its name in `LOSSES`.
        num_samples: rows of the data set.
        device: where the embeddings will be.

    Raises:
        ClipeduError: open_clip is not installed.
    """
    if source == "clipedu":
        ours = build_loss(loss, temperature=TEMPERATURE, num_samples=num_samples).to(device)
        return lambda image, text, index: ours(image, text, index).total
    if source == "open_clip":
        return _open_clip(loss, device)
    if loss == "sogclr":
        return CourseSogCLR(num_samples, device)
    if loss == "onlineclr":
        return CourseOnlineCLR(device)
    return {"clip": course_clip, "cyclip": course_cyclip, "vicreg": course_vicreg}[loss]


def _open_clip(loss: str, device: torch.device | str) -> Contender:
    try:
        from open_clip.loss import ClipLoss, SigLipLoss
    except ImportError:
        raise ClipeduError(
            "the bench measures against open_clip, which is not installed: pip install open_clip_torch"
        ) from None
    scale = torch.tensor(1 / TEMPERATURE, device=device)
    bias = torch.tensor(-10.0, device=device)
    theirs = ClipLoss() if loss == "clip" else SigLipLoss()
    extra = () if loss == "clip" else (bias,)
    return lambda image, text, index: theirs(normalize(image), normalize(text), scale, *extra)


def course_clip(image: Tensor, text: Tensor, index: Tensor) -> Tensor:
    """Compute CLIP's loss, a `Contender`.

    Args:
        image, text: projections [B, D].
        index: not used.
    """
    logits = normalize(image) @ normalize(text).T / TEMPERATURE
    target = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def course_cyclip(image: Tensor, text: Tensor, index: Tensor) -> Tensor:
    """Compute CyCLIP's loss, a `Contender`.

    Args:
        image, text: projections [B, D].
        index: not used.
    """
    x, y = normalize(image), normalize(text)
    logits, images, texts = x @ y.T / TEMPERATURE, x @ x.T / TEMPERATURE, y @ y.T / TEMPERATURE
    target = torch.arange(len(x), device=x.device)
    clip = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    in_modal = (images - texts).square().mean() * TEMPERATURE**2 * len(x)
    cross = (logits - logits.T).square().mean() * TEMPERATURE**2 * len(x)
    return clip + 0.25 * in_modal + 0.25 * cross


def course_vicreg(image: Tensor, text: Tensor, index: Tensor) -> Tensor:
    """Compute VICReg's loss, a `Contender`.

    Args:
        image, text: projections [B, D].
        index: not used.
    """
    total = 25 * (image - text).square().mean()
    for x in (image, text):
        total = total + 25 * relu(1 - torch.sqrt(x.var(dim=0) + 1e-4)).mean() / 2
        centred = x - x.mean(dim=0)
        covariance = centred.T @ centred / (len(x) - 1)
        off_diagonal = covariance[~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)]
        total = total + off_diagonal.square().sum() / x.shape[1]
    return total


class CourseSogCLR:
    """The course's SogCLR, a `Contender`.

    It has a shift b that only rises, averages s and weights e / (s + 1e-8), and computes one direction after the other.
    """

    def __init__(self, num_samples: int, device: torch.device | str = "cpu"):
        self.s = torch.zeros(2, num_samples, device=device)
        self.b = torch.zeros(2, num_samples, device=device)
        self.first_epoch = True

    def __call__(self, image: Tensor, text: Tensor, index: Tensor) -> Tensor:
        similarity = normalize(image) @ normalize(text).T
        own, size = similarity.diagonal(), len(similarity)
        mask = 1 - torch.eye(size, device=similarity.device, dtype=similarity.dtype)
        total = similarity.new_zeros(())
        for side, h in enumerate((similarity - own[:, None], (similarity - own[None, :]).T)):
            z = (h / TEMPERATURE).detach()
            old = self.b[side][index]
            shift = torch.maximum(old, z.max(dim=1).values)
            e = torch.exp(z - shift[:, None]) * mask
            g = e.sum(dim=1) / (size - 1)
            s = g if self.first_epoch else (1 - GAMMA) * self.s[side][index] * torch.exp(old - shift) + GAMMA * g
            self.s[side][index], self.b[side][index] = s.to(self.s.dtype), shift.to(self.b.dtype)
            weight = e / (s[:, None] + 1e-8)
            total = total + (weight * h).sum(dim=1).div(size - 1).mean()
        self.first_epoch = False
        return total


class CourseOnlineCLR:
    """The course's OnlineCLR, a `Contender`.

    It has two running sums, over all negatives and over all positives, each with its running shift.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.u, self.shift = torch.zeros(2, device=device), torch.zeros(2, device=device)

    def __call__(self, image: Tensor, text: Tensor, index: Tensor) -> Tensor:
        similarity = normalize(image) @ normalize(text).T
        own = torch.eye(len(similarity), device=similarity.device, dtype=similarity.dtype)
        total = similarity.new_zeros(())
        for k, (s, mask, tau) in enumerate(((similarity, 1 - own, TEMPERATURE), (-similarity, own, 10 * TEMPERATURE))):
            score = s.detach() * mask
            shift = score.max().clamp(min=0)
            e = torch.exp((score - shift) / tau) * mask
            u = (1 - GAMMA) * self.u[k] * torch.exp((self.shift[k] - shift) / tau) + GAMMA * e.sum()
            self.u[k], self.shift[k] = u, shift
            total = total + (e / u * s).sum()
        return total
