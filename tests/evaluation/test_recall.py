"""Recall and zero-shot accuracy against naive loops, at the level of chance, and at perfection."""

from __future__ import annotations

import math
import random

import pytest
import torch

from clipedu.evaluation import ranks, recall
from clipedu.evaluation.recall import retrieval, zero_shot
from clipedu.geometry import build_geometry

KS = (1, 5, 10)


class Dot:
    """Plain products: a geometry whose similarities a test can choose."""

    def similarity(self, x, y):
        return x @ y.T

    def mean(self, x):
        return x.mean(0)


class Given:
    """A geometry that looks the similarity up in a table: images are (0, row), texts (1, row)."""

    def __init__(self, table):
        self.table = table

    def similarity(self, x, y):
        flipped = x[0, 0] == 1
        rows, columns = (y, x) if flipped else (x, y)
        part = self.table[rows[:, 1].long()][:, columns[:, 1].long()]
        return part.T if flipped else part


def places(side: int, count: int) -> torch.Tensor:
    return torch.stack([torch.full((count,), float(side)), torch.arange(float(count))], 1)


def naive_hits(row: list[float], own: list[int], k: int) -> bool:
    """Sort by similarity, highest first, NaN last, equal ones in their order; is one of the own among the first k?"""
    order = sorted(range(len(row)), key=lambda j: -row[j] if not math.isnan(row[j]) else math.inf)
    return any(j in own for j in order[:k])


def naive_retrieval(table: torch.Tensor, owner: list[int]) -> dict[str, float]:
    images, captions = table.shape
    rows, columns = table.tolist(), table.T.tolist()
    scores = {}
    for k in KS:
        found = [naive_hits(rows[i], [t for t in range(captions) if owner[t] == i], k) for i in range(images)]
        scores[f"tr@{k}"] = 100 * sum(found) / images
        found = [naive_hits(columns[t], [owner[t]], k) for t in range(captions)]
        scores[f"ir@{k}"] = 100 * sum(found) / captions
    return scores


def random_owner(images: int, rng: random.Random) -> list[int]:
    return [row for row in range(images) for _ in range(rng.randint(1, 6))]


def scores_of(table: torch.Tensor, owner: list[int]) -> dict[str, float]:
    images, captions = table.shape
    got = retrieval(places(0, images), places(1, captions), torch.tensor(owner), Given(table))
    assert (got.pop("retrieval_images"), got.pop("retrieval_captions")) == (images, captions)
    return got


@pytest.mark.parametrize("kind", ["plain", "ties", "many ties", "some nan", "infinite", "signed zeros"])
@pytest.mark.parametrize("seed", range(3))
def test_retrieval_as_a_stable_sort_sees_it(kind, seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    owner = random_owner(29, rng)
    table = torch.randn(29, len(owner), dtype=torch.float64)
    table += 1.5 * (torch.arange(29)[:, None] == torch.tensor(owner))
    if kind == "ties":
        table = table.round()
    elif kind == "many ties":
        table = (table > 0.5).double()
    elif kind == "some nan":
        table = table.round()
        table[torch.rand(table.shape) < 0.2] = torch.nan
        table[3] = torch.nan
        table[:, 7] = torch.nan
    elif kind == "infinite":
        table[torch.rand(table.shape) < 0.1] = torch.inf
        table[torch.rand(table.shape) < 0.1] = -torch.inf
    elif kind == "signed zeros":
        table = torch.where(torch.rand(table.shape) < 0.5, 0.0, -0.0).double()
    assert scores_of(table, owner) == pytest.approx(naive_retrieval(table, owner), abs=1e-9)


def test_retrieval_of_real_embeddings():
    rng = random.Random(5)
    torch.manual_seed(5)
    owner = random_owner(40, rng)
    image, text = torch.randn(40, 6), torch.randn(len(owner), 6)
    text += image[owner]
    cosine = build_geometry("cosine", 6)
    got = retrieval(image, text, torch.tensor(owner), cosine)
    expected = naive_retrieval(cosine.similarity(image, text).double(), owner)
    assert {key: got[key] for key in expected} == pytest.approx(expected, abs=1e-9)
    assert 20 < expected["tr@1"] < 100


@pytest.mark.parametrize("value", [0.0, 0.3, math.nan, -math.inf, math.inf])
def test_a_constant_model_scores_chance(value):
    """What the course's Adam + OnlineCLR run scored: k of N images, never 100 %."""
    owner = [row for row in range(50) for _ in range(5)]
    got = scores_of(torch.full((50, 250), value), owner)
    for k in KS:
        assert got[f"ir@{k}"] == pytest.approx(100 * k / 50)
        assert got[f"tr@{k}"] == pytest.approx(100 * math.ceil(k / 5) / 50)
    labels = torch.arange(60) % 20
    top = zero_shot(torch.zeros(60, 2), torch.zeros(20, 2), labels, Constant(value))
    assert (top["top1"], top["top5"]) == (pytest.approx(5), pytest.approx(25))


class Constant:
    def __init__(self, value):
        self.value = value

    def similarity(self, x, y):
        return torch.full((len(x), len(y)), self.value)


@pytest.mark.parametrize("fill", [math.nan, 0.0, 1.7])
def test_collapsed_embeddings_score_chance_in_cosine(fill):
    owner = torch.arange(203).repeat_interleave(5)
    image, text = torch.full((203, 48), fill), torch.full((1015, 48), fill)
    got = retrieval(image, text, owner, build_geometry("cosine", 48))
    assert got["ir@1"] == pytest.approx(100 / 203) and got["tr@1"] == pytest.approx(100 / 203)


def test_a_perfect_model_scores_100():
    owner = torch.arange(12).repeat_interleave(3)
    image = torch.eye(12)
    got = retrieval(image, image[owner], owner, build_geometry("cosine", 12))
    assert all(got[f"{side}@{k}"] == 100 for side in ("tr", "ir") for k in KS)
    top = zero_shot(image, image, torch.arange(12), Dot())
    assert top == {"top1": 100, "top5": 100, "zeroshot_images": 12, "zeroshot_classes": 12}


def test_the_worst_model_scores_0():
    owner = torch.arange(20)
    got = retrieval(torch.eye(20), -torch.eye(20), owner, Dot())
    assert all(got[f"{side}@{k}"] == 0 for side in ("tr", "ir") for k in KS)


@pytest.mark.parametrize("chunk", [1, 7, 100, 1000])
def test_chunks_change_nothing(monkeypatch, chunk):
    torch.manual_seed(1)
    owner = [row for row in range(23) for _ in range(1 + row % 3)]
    table = torch.randn(23, len(owner)).round(decimals=1)
    classes = torch.randn(9, 4).round()
    labels = torch.arange(23) % 9

    def both():
        image = torch.randn(23, 4, generator=torch.Generator().manual_seed(0)).round()
        return scores_of(table, owner), zero_shot(image, classes, labels, Dot())

    whole = both()
    monkeypatch.setattr(recall, "CHUNK", chunk)
    monkeypatch.setattr(ranks, "TILE", chunk)
    monkeypatch.setattr(ranks, "STRIP", chunk // 3)
    assert both() == whole


@pytest.mark.parametrize("seed", range(3))
def test_zero_shot_as_a_loop_sees_it(seed):
    torch.manual_seed(seed)
    image, classes = torch.randn(60, 3).round().double(), torch.randn(11, 3).round().double()
    labels = torch.randint(11, (60,))
    got = zero_shot(image, classes, labels, Dot())
    table = (image @ classes.T).tolist()
    for k in (1, 5):
        found = [naive_hits(table[i], [int(labels[i])], k) for i in range(60)]
        assert got[f"top{k}"] == pytest.approx(100 * sum(found) / 60)
