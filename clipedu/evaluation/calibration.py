r"""Calibration: is a zero-shot classifier right as often as it is sure?

The probability of class c is $\mathrm{softmax}(s \cdot \text{similarity}(x, \text{text}_c))$ with s = 1 / temperature, the model's own logit scale
(a bias, as SigLIP learns one, is the same for all classes and falls out). The confidence is the largest probability. The expected
calibration error, with bins of equal width over the confidence (Guo et al. 2017, arXiv:1706.04599), is

$$ \mathrm{ECE} = \sum_b \frac{n_b}{N} \, | \text{accuracy}_b - \text{confidence}_b | $$

Temperature scaling, of the same paper, fits one number, the temperature, on pictures held out, by their mean negative log-likelihood. It
changes no prediction, only how sure each is. A contrastive loss learns its temperature on batches of captions, not on these classes, so there
is no reason that it fits them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from clipedu.data.pairs import Pairs
from clipedu.evaluation.recall import CHUNK, HasSimilarity, class_prototypes
from clipedu.inference.embed import embed_images
from clipedu.models.dual_encoder import DualEncoder
from clipedu.utils.checks import checked_number
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import check_model
from clipedu.utils.seeding import seeded

if TYPE_CHECKING:
    import pandas

BINS = 15
_RANGE = 1e4  # how far from the model's own temperature the fitted one may be, as a factor
_SEED = 15  # of the half on which the temperature is fitted: the same for each model


@torch.no_grad()
def zero_shot_logits(image: Tensor, prototypes: Tensor, geometry: HasSimilarity, logit_scale: float = 1.0) -> Tensor:
    """Compute the logits of zero-shot classification.

    Args:
        image: [N, D] embeddings.
        prototypes: [C, D], one a class (`class_prototypes`).
        geometry: of the embeddings; only its `similarity` is used.
        logit_scale: 1 / temperature, > 0.
    Returns:
        float64 [N, C], on the CPU.
    """
    checked_number("logit_scale", logit_scale, above=0)
    parts = image.split(max(1, CHUNK // len(prototypes)))
    return logit_scale * torch.cat([geometry.similarity(rows, prototypes).double().cpu() for rows in parts])


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> pandas.DataFrame:
    """Compare accuracy and confidence, bin by bin.

    Args:
        probabilities: [N, C], rows sum to 1.
        labels: int64 [N], 0..C-1.
        bins: how many, of equal width over 0..1; a bin holds its lower edge, the last one both.
    Returns:
        one row a bin: "low" and "high", its edges; "count"; "confidence" and "accuracy", means in 0..1, nan for an empty bin.
    Raises:
        ClipeduError: shapes that do not fit, nothing to score, or less than one bin.
    """
    import pandas

    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise ClipeduError(
            f"calibration takes probabilities [N, C] and labels [N], got {list(probabilities.shape)} and {list(labels.shape)}"
        )
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ClipeduError(f"bins must be a whole number of at least 1, got {bins!r}")
    confidence, predicted = probabilities.double().max(1)
    right = (predicted == labels).double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    place = torch.bucketize(confidence, edges[1:-1].contiguous(), right=True)
    count, sure, hit = (
        torch.zeros(bins, dtype=torch.float64).index_add_(0, place, values)
        for values in (torch.ones_like(right), confidence, right)
    )
    return pandas.DataFrame(
        {
            "low": edges[:-1].numpy(),
            "high": edges[1:].numpy(),
            "count": count.long().numpy(),
            "confidence": (sure / count).numpy(),
            "accuracy": (hit / count).numpy(),
        }
    )


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Compute the expected calibration error, in percent.

    Arguments and errors are those of `reliability`.
    """
    table = reliability(probabilities, labels, bins)
    gaps = (table["accuracy"] - table["confidence"]).abs().fillna(0) * table["count"]
    return 100 * float(gaps.sum() / table["count"].sum())


def fit_temperature(similarity: Tensor, labels: Tensor, start: float = 1.0) -> float:
    """Fit the temperature that makes softmax(similarity / T) most likely.

    The mean negative log-likelihood is convex in 1 / T. Where no temperature is best (all predictions are right, or none is) the
    result is at the end of the range, 10,000 times `start` or a ten-thousandth of it.

    Args:
        similarity: [N, C], or any logits.
        labels: int64 [N], 0..C-1.
        start: a temperature near which to look, > 0.
    Returns:
        the temperature, > 0.
    """
    from scipy.optimize import minimize_scalar

    checked_number("start", start, above=0)
    logits = similarity.double() / start

    def loss(log_scale: float) -> float:
        return cross_entropy(logits * math.exp(log_scale), labels).item()

    ends = (-math.log(_RANGE), math.log(_RANGE))
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-6})
    best = min((*ends, float(found.x)), key=loss)
    return start * math.exp(-best)


@dataclass(frozen=True)
class Calibration:
    """Calibration of a classifier, before and after temperature scaling.

    Both are measured on the pictures on which the temperature was not fitted.

    Attributes:
        table: two rows, "before" and "after" (column "probabilities"): "temperature", "ece", "confidence" and "accuracy" in percent,
            "nll" in nats.
        reliability: the bins of both, as `reliability` gives them, with a column "probabilities".
        fitted_on, measured_on: how many pictures.
    """

    table: pandas.DataFrame
    reliability: pandas.DataFrame
    fitted_on: int
    measured_on: int


def calibrate(
    similarity: Tensor, labels: Tensor, temperature: float, *, bins: int = BINS, seed: int = _SEED
) -> Calibration:
    """Measure calibration, and what temperature scaling makes of it.

    The temperature is fitted on a random half of the pictures. Both rows are measured on the other half.

    Args:
        similarity: [N, C], N >= 2.
        labels: int64 [N], 0..C-1.
        temperature: the model's own, > 0.
        bins: of the calibration error.
        seed: of the halves.
    Raises:
        ClipeduError: less than two pictures, or a temperature that is not above 0.
    """
    import pandas

    if len(labels) < 2:
        raise ClipeduError(
            f"calibration needs at least 2 labelled pictures, one to fit and one to measure, got {len(labels)}"
        )
    checked_number("temperature", temperature, above=0)
    order = torch.randperm(len(labels), generator=seeded(seed))
    fit, rest = order[: len(order) // 2], order[len(order) // 2 :].sort().values
    fitted = fit_temperature(similarity[fit], labels[fit], start=temperature)
    rows, tables = [], []
    for name, value in (("before", temperature), ("after", fitted)):
        logits = similarity[rest].double() / value
        probabilities = logits.softmax(1)
        sure, predicted = probabilities.max(1)
        rows.append(
            {
                "probabilities": name,
                "temperature": value,
                "ece": calibration_error(probabilities, labels[rest], bins),
                "nll": cross_entropy(logits, labels[rest]).item(),
                "confidence": 100 * sure.mean().item(),
                "accuracy": 100 * (predicted == labels[rest]).double().mean().item(),
            }
        )
        tables.append(reliability(probabilities, labels[rest], bins).assign(probabilities=name))
    return Calibration(pandas.DataFrame(rows), pandas.concat(tables, ignore_index=True), len(fit), len(rest))


def calibrate_zero_shot(
    model: DualEncoder, pairs: Pairs, temperature: float, *, bins: int = BINS, progress: bool = False
) -> Calibration:
    """Measure the calibration of zero-shot classification.

    Args:
        model: with its tokenizer.
        pairs: a labelled set with class names.
        temperature: of the model, > 0; that of a run is given by `clipedu.workflow.probing.temperature_of`.
        bins: of the calibration error.
        progress: show a progress bar.
    Raises:
        ClipeduError: the set has no named classes.
        NotFinite: a weight or an embedding is not finite.
    """
    if pairs.labels is None or pairs.class_names is None:
        raise ClipeduError(
            f"{pairs.name}/{pairs.split} has no named classes, so there is no zero-shot classifier to calibrate"
        )
    check_model(model)
    image = embed_images(model, pairs, progress=progress)
    prototypes = class_prototypes(model, pairs.class_names, pairs.templates)
    similarity = zero_shot_logits(image.to(model.device), prototypes.to(model.device), model.geometry)
    return calibrate(similarity, pairs.labels, temperature, bins=bins)
