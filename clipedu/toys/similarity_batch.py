r"""A batch given by its similarities, and the weights that a loss gives it.

    batch = scene_batch()                                   # eight named pairs, from easy to unrelated
    seen = examine("clip", batch.similarity, temperature=0.05)
    seen.total, seen.terms, seen.weights                    # weights[i, j] = dL/dS_ij

A similarity loss sees its batch only through the matrix S (rows images, columns captions). So S can be typed in and edited
by hand, cell by cell, without an encoder. Here `Given` is a geometry that reads S off a table; the losses are the
library's own.

Signs: W_ij < 0 *pulls* image i and caption j together, W_ij > 0 *pushes* them apart. The pull on its own pair, -W_ii, is
also an anchor's whole weight: in CLIP, DCL, InfoLOOB and SogCLR what the two anchors of pair i push away adds up to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clipedu.data.scenes.dataset import Scenes
from clipedu.geometry import Geometry
from clipedu.losses import LOSSES, Loss, build_loss
from clipedu.losses.margins import log_mean_exp, margins
from clipedu.losses.sogclr import SogCLR
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import NotFinite, first_non_finite

# Row of the scenes, name, caption. Rows 80 and 117 are two blue diamonds: each caption is true of both pictures, so the
# loss pushes apart what belongs together (a false negative). The last caption says nothing about its picture: web data.
PAIRS = (
    (6, "blue star", "a large blue star"),
    (12, "white heart", "a large white heart"),
    (31, "purple ring", "a large purple ring"),
    (40, "red arrow", "a large red arrow"),
    (34, "green diamond", "a large green diamond"),
    (80, "blue diamond", "a large blue diamond"),
    (117, "its twin", "a big blue diamond"),
    (37, "hopeless", "stock photo, free shipping"),
)
# Typed in, as a model in the middle of its training might have it: what shares a colour or a shape is nearer.
SIMILARITY = (
    (0.80, 0.10, 0.05, 0.15, 0.05, 0.30, 0.25, 0.10),
    (0.15, 0.70, 0.20, 0.10, 0.10, 0.05, 0.05, 0.15),
    (0.05, 0.25, 0.60, 0.10, 0.15, 0.10, 0.10, 0.05),
    (0.15, 0.10, 0.05, 0.50, 0.20, 0.05, 0.10, 0.20),
    (0.05, 0.10, 0.15, 0.15, 0.45, 0.35, 0.30, 0.10),
    (0.30, 0.05, 0.10, 0.05, 0.30, 0.55, 0.50, 0.10),
    (0.25, 0.05, 0.10, 0.10, 0.35, 0.55, 0.50, 0.05),
    (0.10, 0.15, 0.05, 0.25, 0.20, 0.10, 0.15, 0.00),
)


@dataclass(frozen=True)
class SimilarityBatch:
    """B pairs whose similarities are given.

    Attributes:
        similarity: float64 [B, B], rows images, columns captions.
        names: a short name of each pair.
        captions: one of each pair.
        pixels: uint8 [B, 3, H, W].
    """

    similarity: Tensor
    names: tuple[str, ...]
    captions: tuple[str, ...]
    pixels: Tensor


@dataclass(frozen=True)
class Seen:
    """The value of a loss on a batch, and its weights.

    Attributes:
        total: the value.
        terms: its parts by name.
        weights: dL/dS, [B, B].
    """

    total: float
    terms: dict[str, float]
    weights: Tensor

    @property
    def pull(self) -> Tensor:
        """-W_ii, [B]: how strongly each picture is pulled to its own caption."""
        return -self.weights.diagonal()

    @property
    def size(self) -> float:
        """Norm of W: the size of the gradient that leaves the loss."""
        return self.weights.norm().item()


class Given(Geometry):
    """A geometry that reads similarities off a table.

    image = S [N, T] and text = the identity [T, T] give S.
    """

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        return x @ y.T


def scene_batch(image_size: int = 64) -> SimilarityBatch:
    """Make a batch of eight scenes, from easy to unrelated.

    "blue diamond" and "its twin" are a false negative.
    """
    rows, names, captions = zip(*PAIRS, strict=True)
    pixels = Scenes("train", max(rows) + 1, image_size).pixels(torch.tensor(rows))
    return SimilarityBatch(torch.tensor(SIMILARITY, dtype=torch.float64), names, captions, pixels)


def similarity_losses() -> list[str]:
    """Name the losses that are functions of S.

    These are all but VICReg, which never compares image i with caption j.
    """
    return [name for name, entry in LOSSES.items() if "geometry" in entry.defaults]


def examine(
    name: str, similarity: Tensor, *, temperature: float, visits: Sequence[Tensor] = (), **options: Any
) -> Seen:
    """Evaluate a loss and its weights dL/dS at given similarities.

    CyCLIP is examined without its in-modal part: S does not say how similar two images are.

    Args:
        name: of the loss, one of `similarity_losses`.
        similarity: S, float [B, B].
        temperature: of the loss, > 0.
        visits: the S of earlier steps, oldest first, each [B, B], which a loss with memory has averaged.
        options: the loss's own, such as scale="clip" or, for sogclr, form="course" and gamma.
    Raises:
        ClipeduError: unknown loss or option, a loss without S, a value out of range, or S that is no square matrix.
        NotFinite: a cell of S, or a weight, is NaN or infinite.
    """
    loss, index = _build(name, similarity, temperature, visits, options), torch.arange(len(similarity))
    weights = loss.pair_weights(*_as_embeddings(similarity), index).detach()
    output = loss.eval()(*_as_embeddings(similarity), index)
    if fault := first_non_finite([("the loss", output.total), ("a weight dL/dS", weights)]):
        raise NotFinite(
            f"{fault} is not finite with {name} at temperature {temperature:g}: a larger temperature may help"
        )
    terms = {term: value.item() for term, value in output.terms.items()}
    return Seen(output.total.item(), terms, weights)


def lead(similarity: Tensor) -> Tensor:
    """Return by how much each pair is ahead of its best rival, [B].

    A rival is in its row or its column; a pair above 0 is ranked first, and the largest is easiest.

    Raises:
        NotFinite: a cell of S is NaN or infinite.
    """
    _check_cells(similarity)
    rivals = similarity.clone().fill_diagonal_(-torch.inf)
    return similarity.diagonal() - torch.maximum(rivals.amax(0), rivals.amax(1))


def silenced(similarity: Tensor, temperature: float, visits: Sequence[Tensor] = (), gamma: float = 0.8) -> Tensor:
    """Find the pairs that the course's form of SogCLR pulls less than half.

    That is less than half as much as the form in logarithms does. All that differs between the two is the 1e-8 that the course
    adds.

    Args:
        similarity: S, float [B, B].
        temperature: of both forms, > 0.
        visits: the S of earlier steps, oldest first, each [B, B].
        gamma: of the running averages, above 0 and at most 1.
    Returns:
        bool [B].
    Raises:
        ClipeduError: as `examine`.
    """
    pulls = [
        examine("sogclr", similarity, temperature=temperature, visits=visits, form=form, gamma=gamma).pull
        for form in ("course", "log")
    ]
    return pulls[0] < pulls[1] / 2


def remembered(
    visits: Sequence[Tensor], temperature: float, form: str = "log", gamma: float = 0.8
) -> dict[str, Tensor]:
    """Record SogCLR's running averages of its images, visit by visit.

    "g": this batch alone, mean of exp(h / tau) over the negatives. "u": what the weights are divided by; in the course's
    form that is (s + 1e-8) exp(b), floor included. The weight of an anchor is g / u.

    Args:
        visits: the S of each step, oldest first, float [B, B] each.
        temperature: tau, > 0.
        form: "log" or "course", as in `SogCLR`.
        gamma: of the running averages, above 0 and at most 1.
    Returns:
        "g" and "u" as natural logarithms, [visits, B] each.
    Raises:
        ClipeduError: as `examine`.
    """
    loss = _build("sogclr", visits[0], temperature, (), {"form": form, "gamma": gamma})
    for similarity in visits:
        _check_cells(similarity)
    rows: dict[str, list[Tensor]] = {"g": [], "u": []}
    for similarity in visits:
        _visit(loss, similarity)
        rows["g"].append(log_mean_exp(margins(similarity) / temperature)[0])
        memory = dict(loss.named_buffers())
        log_u = memory["log_u"] if form == "log" else memory["b"] + torch.log(memory["s"] + SogCLR.eps)
        rows["u"].append(log_u[0].clone())
    return {name: torch.stack(values).double() for name, values in rows.items()}


def with_similarity(similarity: Tensor, image: int, caption: int, value: float) -> Tensor:
    """Copy S with one cell changed.

    Args:
        similarity: S, float [B, B].
        image: row of the cell.
        caption: column of the cell.
        value: what it holds afterwards.
    """
    changed = similarity.clone()
    changed[image, caption] = value
    return changed


def with_false_negative(similarity: Tensor, first: int, second: int) -> Tensor:
    """Copy S so that either caption of two pairs fits either picture.

    It fits as well as the picture's own caption does.

    Args:
        similarity: S, float [B, B].
        first, second: numbers of the two pairs.
    """
    changed = with_similarity(similarity, first, second, similarity[first, first].item())
    return with_similarity(changed, second, first, similarity[second, second].item())


def with_swapped_captions(similarity: Tensor, first: int, second: int) -> Tensor:
    """Copy S with the captions of two pairs (columns) exchanged.

    Args:
        similarity: S, float [B, B].
        first, second: numbers of the two pairs.
    """
    order = list(range(len(similarity)))
    order[first], order[second] = second, first
    return similarity[:, order]


def with_rivals(similarity: Tensor, ahead: float) -> Tensor:
    """Copy S so that each picture and each caption has a better rival.

    The rival, the best one so far, is raised above its own pair by at least `ahead`. Such a batch is bad: captions in
    it fit the wrong pictures very well.
    """
    own, rivals = similarity.diagonal(), similarity.clone().fill_diagonal_(-torch.inf)
    pairs, changed = torch.arange(len(own)), similarity.clone()
    changed[pairs, rivals.argmax(1)] = own + ahead
    columns = changed.clone()
    columns[rivals.argmax(0), pairs] = own + ahead
    return torch.maximum(changed, columns)


def _build(
    name: str, similarity: Tensor, temperature: float, visits: Sequence[Tensor], options: dict[str, Any]
) -> Loss:
    """Build the loss, which reads S off a table, after these visits."""
    if name in LOSSES and name not in similarity_losses():
        raise ClipeduError(f"{name} is no function of S. Allowed: {', '.join(similarity_losses())}")
    for table in (similarity, *visits):
        _check_cells(table)
        if table.ndim != 2 or table.shape != similarity.shape or table.shape[0] != table.shape[1]:
            raise ClipeduError(f"S is [B, B], the same B in all visits; got {[*table.shape]} and {[*similarity.shape]}")
    if "in_modal" in LOSSES[name].defaults:
        options = {**options, "in_modal": 0.0}
    loss = build_loss(name, temperature=temperature, num_samples=len(similarity), geometry=Given(), **options)
    for earlier in visits:
        _visit(loss, earlier)
    return loss


def _check_cells(similarity: Tensor) -> None:
    """Check that all similarities are finite. Raises NotFinite, which names the first that is not."""
    wrong = (~similarity.isfinite()).nonzero()
    if len(wrong):
        place = tuple(wrong[0].tolist())
        raise NotFinite(f"S{list(place)} is {similarity[place].item():g}: similarities are finite numbers")


def _visit(loss: Loss, similarity: Tensor) -> None:
    """Update the memory of a loss, as one training step does."""
    with torch.no_grad():
        loss.train()(*_as_embeddings(similarity), torch.arange(len(similarity)))


def _as_embeddings(similarity: Tensor) -> tuple[Tensor, Tensor]:
    return similarity, torch.eye(len(similarity), dtype=similarity.dtype)
