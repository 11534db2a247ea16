"""Probes: classifiers on frozen image features, trained on a few labels.

    linear  logistic regression (scikit-learn's), features centred and divided by one number, so that their mean square length is 1; its
            inverse L2 penalty C is chosen (Radford et al. 2021, arXiv:2103.00020, section 3.2)
    knn     the k nearest training pictures vote, in the geometry's own distance, or by the cosine; k is chosen
    gda     class means and one shared covariance; and the same with the zero-shot classifier, whose weight is chosen
            (`clipedu.evaluation.gda`)

A setting is chosen on a part of the training pictures that is held out, by accuracy (of equal ones the first), and the probe is then
trained again on all of them. What is scored has no part in any choice. With one picture a class nothing can be held out, and a probe
has its `default`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipedu.evaluation.gda import fit_gda
from clipedu.utils.errors import unknown_name

Distance = Callable[[Tensor, Tensor], Tensor]

CHUNK = 1 << 24  # distances held at once


@dataclass(frozen=True)
class Sample:
    """N labelled pictures, as a probe sees them.

    Attributes:
        features: [N, F], float.
        labels: int64 [N], 0..C-1.
        zero_shot: [N, C], logits of the zero-shot classifier.
    """

    features: Tensor
    labels: Tensor
    zero_shot: Tensor

    def rows(self, rows: Tensor) -> Sample:
        """Return some of the pictures: int64 [M], or bool [N]."""
        return Sample(self.features[rows], self.labels[rows], self.zero_shot[rows])

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return self.zero_shot.shape[1]


Classifier = Callable[[Sample], Tensor]  # scores [N, C], larger = more likely


@dataclass(frozen=True)
class Probe:
    """A kind of classifier, with one setting that is chosen.

    Attributes:
        name: of the probe.
        setting: what is chosen.
        values: to choose from.
        default: where nothing can be chosen.
        fit: training sample and values -> a classifier each.
    """

    name: str
    setting: str
    values: tuple[float, ...]
    default: float
    fit: Callable[[Sample, Sequence[float]], list[Classifier]] = field(repr=False)


def cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return 1 - cosine of all pairs: x [A, F], y [B, F] -> [A, B]."""
    unit = torch.nn.functional.normalize
    return 1 - unit(x, dim=1) @ unit(y, dim=1).T


def build_probes(names: Sequence[str], distance: Distance = cosine_distance) -> list[Probe]:
    """Return probes by name; "gda" gives two.

    Args:
        names: of "linear", "knn" and "gda".
        distance: of the nearest neighbours: x [A, F], y [B, F] -> [A, B].
    Raises:
        ClipeduError: an unknown name.
    """
    makers: dict[str, Callable[[], list[Probe]]] = {
        "linear": lambda: [linear_probe()],
        "knn": lambda: [nearest_neighbours(distance)],
        "gda": lambda: [discriminant(), discriminant_with_zero_shot()],
    }
    for name in names:
        if name not in makers:
            raise unknown_name("probe", name, makers)
    return [probe for name in names for probe in makers[name]()]


def linear_probe() -> Probe:
    """Return logistic regression on centred features of mean length 1."""

    def fit(train: Sample, values: Sequence[float]) -> list[Classifier]:
        x, labels = train.features.double(), train.labels.numpy()
        middle = x.mean(0)
        length = (x - middle).square().sum(1).mean().sqrt().clamp(min=torch.finfo(torch.float32).tiny)

        def scaled(features: Tensor) -> np.ndarray:
            return ((features.double() - middle) / length).float().numpy()

        def one(value: float) -> Classifier:
            model = _logistic_regression(scaled(x), labels, value)
            known = torch.from_numpy(model.classes_)

            def scores(sample: Sample) -> Tensor:
                found = torch.full((len(sample.labels), sample.classes), -torch.inf, dtype=torch.float64)
                with np.errstate(divide="ignore"):  # a class may have probability 0
                    found[:, known] = torch.from_numpy(model.predict_log_proba(scaled(sample.features))).double()
                return found

            return scores

        return [one(value) for value in values]

    return Probe("linear", "C", (1.0, 10.0, 100.0, 1000.0, 10_000.0), 100.0, fit)


def _logistic_regression(x: np.ndarray, labels: np.ndarray, strength: float) -> Any:
    """Fit scikit-learn's, with one thread: where others compute too, many threads on matrices so small wait for each other."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few rows a class; and a weak penalty on separable classes has no end
        return LogisticRegression(C=strength, max_iter=1000).fit(x, labels)


def nearest_neighbours(distance: Distance = cosine_distance) -> Probe:
    """Return the vote of the k nearest training pictures.

    Of classes with equally many votes the one with the nearest picture wins. A k above the number of pictures is that number.

    Args:
        distance: x [A, F], y [B, F] -> [A, B].
    """

    def fit(train: Sample, values: Sequence[float]) -> list[Classifier]:
        most = min(len(train.labels), int(max(values)))

        def one(value: float) -> Classifier:
            def scores(sample: Sample) -> Tensor:
                rows = max(1, CHUNK // len(train.labels))
                parts = [
                    _votes(distance(x, train.features), train.labels, min(most, int(value)), sample.classes)
                    for x in sample.features.split(rows)
                ]
                return torch.cat(parts)

            return scores

        return [one(value) for value in values]

    return Probe("knn", "k", (1, 3, 5, 10, 20), 1, fit)


def _votes(distance: Tensor, labels: Tensor, k: int, classes: int) -> Tensor:
    """Return votes [A, C] of the k nearest, with less than one more for the nearest: distance [A, B], labels int64 [B]."""
    near = distance.sort(dim=1, stable=True).indices[:, :k]
    votes = torch.zeros(len(distance), classes, dtype=torch.float64)
    votes.scatter_add_(1, labels[near], torch.ones(near.shape, dtype=torch.float64))
    rank = torch.arange(k, dtype=torch.float64).expand_as(near)
    first = torch.full_like(votes, k).scatter_reduce_(1, labels[near], rank, "amin")
    return votes - first / (k + 1)


def discriminant() -> Probe:
    """Return Gaussian discriminant analysis; it has nothing to choose."""

    def fit(train: Sample, values: Sequence[float]) -> list[Classifier]:
        found = fit_gda(train.features, train.labels, train.classes)
        return [lambda sample: found.logits(sample.features)] * len(values)

    return Probe("gda", "", (1.0,), 1.0, fit)


def discriminant_with_zero_shot() -> Probe:
    """Return Gaussian discriminant analysis added to the zero-shot logits."""

    def fit(train: Sample, values: Sequence[float]) -> list[Classifier]:
        found = fit_gda(train.features, train.labels, train.classes)

        def one(weight: float) -> Classifier:
            return lambda sample: sample.zero_shot.double() + weight * found.logits(sample.features)

        return [one(value) for value in values]

    return Probe("gda + zero-shot", "alpha", (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0), 1.0, fit)


def train_probe(probe: Probe, train: Sample, held: Tensor | None = None) -> tuple[Classifier, float]:
    """Choose the setting of a probe and train it.

    Args:
        probe: of `build_probes`.
        train: N pictures.
        held: bool [N], those on which the setting is chosen; None, or none of them, takes the default.
    Returns:
        a classifier, trained on all N, and its setting.
    """
    value = probe.default
    if held is not None and bool(held.any()) and len(probe.values) > 1:
        trials = probe.fit(train.rows(~held), probe.values)
        scores = [accuracy(trial, train.rows(held)) for trial in trials]
        value = probe.values[int(np.argmax(scores))]
    (classifier,) = probe.fit(train, [value])
    return classifier, value


def accuracy(classifier: Classifier, sample: Sample) -> float:
    """Return the share of pictures whose class has the best score, in percent.

    Of equal scores the first counts.
    """
    return 100 * (classifier(sample).argmax(1) == sample.labels).double().mean().item()
