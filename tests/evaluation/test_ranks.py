"""Ranks against a stable sort, whatever the tiles, the order of the captions and how many an image has."""

from __future__ import annotations

import math

import pytest
import torch

from clipedu.evaluation import ranks
from clipedu.evaluation.ranks import ranks_of_own
from clipedu.geometry import build_geometry


def table_lookup(table):
    """Return a similarity that reads a table: an embedding is its row number."""
    return lambda x, y: table[x[:, 0].long()][:, y[:, 0].long()]


def numbers(count: int) -> torch.Tensor:
    return torch.arange(float(count))[:, None]


def naive_ranks(table: torch.Tensor, owner: list[int]) -> tuple[list[int], list[int]]:
    """Sort each row and column, highest first, equal ones in their order, NaN last."""

    def order(values: list[float]) -> list[int]:
        return sorted(range(len(values)), key=lambda j: math.inf if math.isnan(values[j]) else -values[j])

    rows = [order(row) for row in table.tolist()]
    columns = [order(column) for column in table.T.tolist()]
    of_images = [min(rows[i].index(t) for t, own in enumerate(owner) if own == i) for i in range(len(rows))]
    return of_images, [columns[t].index(own) for t, own in enumerate(owner)]


def values(kind: str, shape: tuple[int, int]) -> torch.Tensor:
    table = torch.randn(shape)
    if kind == "ties":
        return table.round()
    if kind == "two values":
        return (table > 0.5).float()
    if kind == "with nan":
        return torch.where(torch.rand(shape) < 0.2, torch.nan, table.round())
    if kind == "infinite":
        return torch.where(torch.rand(shape) < 0.2, torch.inf * table, table)
    return table


@pytest.mark.parametrize("kind", ["plain", "ties", "two values", "with nan", "infinite"])
@pytest.mark.parametrize("captions", ["in order", "shuffled", "uneven"])
@pytest.mark.parametrize("tile, strip", [(1 << 20, 1 << 15), (1 << 20, 1), (1 << 20, 60), (300, 40), (100, 10), (1, 1)])
def test_as_a_stable_sort_ranks(monkeypatch, kind, captions, tile, strip):
    torch.manual_seed(tile + strip)
    monkeypatch.setattr(ranks, "TILE", tile)
    monkeypatch.setattr(ranks, "STRIP", strip)
    owner = torch.arange(17).repeat_interleave(3)
    if captions == "shuffled":
        owner = owner[torch.randperm(len(owner))]
    elif captions == "uneven":  # one image has half of them
        owner = torch.arange(17).repeat_interleave(torch.tensor([1, 2, 3, 1, 40, *[1, 4] * 6]))
    table = values(kind, (17, len(owner)))
    of_images, of_captions = ranks_of_own(numbers(17), numbers(len(owner)), owner, table_lookup(table))
    expected = naive_ranks(table, owner.tolist())
    assert of_images.tolist() == expected[0] and of_captions.tolist() == expected[1]
    assert of_images.dtype == of_captions.dtype == torch.int64


@pytest.mark.parametrize("images", [1, 2, 457, 458, 459, 1000])
def test_collapsed_embeddings_are_ranked_by_their_order(images):
    """Equal numbers must be equal in every tile, on the diagonal or not, of whatever size."""
    owner = torch.arange(images).repeat_interleave(5)
    one = torch.randn(1, 48, generator=torch.Generator().manual_seed(0))
    for name in ("cosine", "euclidean", "lorentz"):
        with torch.no_grad():
            similarity = build_geometry(name, 48).similarity
            of_images, of_captions = ranks_of_own(one.expand(images, 48), one.expand(5 * images, 48), owner, similarity)
        assert torch.equal(of_images, 5 * torch.arange(images)) and torch.equal(of_captions, owner)


def test_each_similarity_is_computed_once_and_few_are_held():
    seen, largest = torch.zeros(700, 3500, dtype=torch.int32), 0

    def similarity(x, y):
        nonlocal largest
        found = x @ y.T
        largest = max(largest, found.numel())
        seen[x[:, 0].long(), y[:, 0].long()[:, None]] += 1
        return found

    ranks_of_own(numbers(700), numbers(3500), torch.arange(700).repeat_interleave(5), similarity)
    seen[0, 0] -= 1  # one is asked for its precision
    assert (seen == 1).all() and largest <= ranks.TILE


def test_similarities_that_a_geometry_keeps_are_not_changed():
    table = torch.tensor([[1.0, torch.nan], [torch.inf, 0.5]])
    kept = table.clone()
    ranks_of_own(numbers(2), numbers(2), torch.arange(2), lambda x, y: table)
    assert torch.equal(table, kept) or torch.equal(table.isnan(), kept.isnan())
    assert table[0, 1].isnan()


def test_double_precision_is_kept():
    image = torch.tensor([[1.0], [1.0 + 1e-12]], dtype=torch.float64)
    of_images, of_captions = ranks_of_own(image, image.clone(), torch.arange(2), lambda x, y: x @ y.T)
    assert of_images.tolist() == [1, 0] and of_captions.tolist() == [1, 0]
