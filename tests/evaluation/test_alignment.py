"""Alignment, uniformity and modality gap against naive loops, and at their ends."""

from __future__ import annotations

import math

import pytest
import torch

from clipedu.evaluation.alignment import embedding_shape


def unit(x: torch.Tensor) -> list[list[float]]:
    return [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in x.double().tolist()]


def naive_shape(image: torch.Tensor, text: torch.Tensor) -> dict[str, float]:
    x, y = unit(image), unit(text)

    def squared(a, b):
        return sum((u - v) ** 2 for u, v in zip(a, b, strict=True))

    def uniformity(rows):
        values = [math.exp(-2 * squared(a, b)) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
        return math.log(sum(values) / len(values))

    def mean(rows):
        return [sum(column) / len(rows) for column in zip(*rows, strict=True)]

    return {
        "alignment": sum(squared(a, b) for a, b in zip(x, y, strict=True)) / len(x),
        "uniformity": (uniformity(x) + uniformity(y)) / 2,
        "modality_gap": math.sqrt(squared(mean(x), mean(y))),
    }


def test_shape_as_loops_see_it():
    torch.manual_seed(2)
    image, text = 5 * torch.randn(31, 7), torch.randn(31, 7) + 1
    assert embedding_shape(image, text) == pytest.approx(naive_shape(image, text), rel=1e-9)


def test_shape_at_its_ends():
    x = torch.randn(40, 5)
    equal = embedding_shape(x, 3 * x)
    assert equal["alignment"] == pytest.approx(0, abs=1e-12) and equal["modality_gap"] == pytest.approx(0, abs=1e-7)
    point = torch.ones(6, 3)
    assert embedding_shape(point, -point) == pytest.approx({"alignment": 4, "uniformity": 0, "modality_gap": 2})
    assert embedding_shape(x[:1], x[:1])["uniformity"] == 0
    poles = torch.tensor([[1.0, 0], [-1.0, 0]])
    assert embedding_shape(poles, poles)["uniformity"] == pytest.approx(-8)
