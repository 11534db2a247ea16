"""Scores against naive loops, at the level of chance, and at perfection."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

from clipedu.config.experiment import Experiment
from clipedu.data.load import load_pairs
from clipedu.data.pairs import Pairs
from clipedu.data.tokenizer import train_tokenizer
from clipedu.evaluation import recall
from clipedu.evaluation.alignment import embedding_shape
from clipedu.evaluation.recall import class_prototypes, retrieval, zero_shot
from clipedu.evaluation.scoring import average, evaluate
from clipedu.geometry import build_geometry
from clipedu.inference.embed import embed_pairs
from clipedu.models import build_model
from clipedu.utils.errors import ClipeduError

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


def test_the_average_is_of_the_scores_there_are():
    assert average({"tr@1": 13.18, "ir@1": 10.3, "top1": 24.55, "tr@5": 99}) == pytest.approx(16.01)
    assert average({"tr@1": 14.1, "ir@1": 10.68, "top1": 25.91}) == pytest.approx(16.8966667)
    assert average({"tr@1": 4, "ir@1": 2}) == pytest.approx(3)
    assert average({"top1": 7.5, "top5": 20}) == 7.5


# the shape of the space


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


# models


BASE = {
    "text_options": {"dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32},
    "embedding_dim": 8,
    "text_length": 16,
}


@pytest.fixture(scope="module")
def scenes():
    val, zeroshot = load_pairs("scenes", "val", size=30), load_pairs("scenes", "zeroshot", size=25)
    return val, zeroshot, train_tokenizer([caption for row in range(30) for caption in val.captions(row)], 16)


def model_for(scenes, **changes):
    model = build_model(Experiment(**BASE, **changes), scenes[2].vocab_size)
    model.tokenizer, model.geometry = scenes[2], build_geometry("cosine", 8)
    return model


def test_a_retrieval_set_end_to_end(scenes):
    val, _, tokenizer = scenes
    model = model_for(scenes)
    got = evaluate(model, val)
    assert (got["retrieval_images"], got["retrieval_captions"]) == (30, 150)
    assert got["average"] == pytest.approx((got["tr@1"] + got["ir@1"]) / 2) and "top1" not in got
    assert 0 <= got["tr@1"] <= got["tr@5"] <= got["tr@10"] <= 100
    with torch.no_grad():
        image = model.eval().encode_image(val.pixels(torch.arange(30)))
        ids, lengths = tokenizer.encode([caption for row in range(30) for caption in val.captions(row)])
        mask = torch.arange(16) < torch.from_numpy(lengths)[:, None]
        text = model.encode_text(torch.from_numpy(ids).long(), mask)
    table = model.geometry.similarity(image, text)
    expected = naive_retrieval(table.double(), [row for row in range(30) for _ in range(5)])
    assert {key: got[key] for key in expected} == pytest.approx(expected, abs=1.0)  # rounding may swap a near tie
    assert {key: got[key] for key in ("alignment", "uniformity", "modality_gap")} == pytest.approx(
        naive_shape(image, text[::5]), rel=1e-3
    )


def test_a_labelled_set_end_to_end(scenes):
    _, zeroshot, _ = scenes
    model = model_for(scenes)
    got = evaluate(model, zeroshot)
    assert set(got) == {"top1", "top5", "zeroshot_images", "zeroshot_classes", "average"}
    assert (got["zeroshot_images"], got["zeroshot_classes"], got["average"]) == (25, 100, got["top1"])


@pytest.mark.parametrize(
    "frozen", [{"image_frozen": True}, {"text_frozen": True}, {"image_frozen": True, "text_frozen": True}]
)
def test_a_frozen_encoder_scores_the_same(scenes, frozen):
    expected, got = evaluate(model_for(scenes), scenes[0]), evaluate(model_for(scenes, **frozen), scenes[0])
    assert got == pytest.approx(expected, rel=1e-4, abs=1.0)
    again = evaluate(model_for(scenes, **frozen), scenes[0])
    assert again == got


def test_the_mode_stays_and_nothing_is_learned(scenes):
    for mode in (True, False):
        model = model_for(scenes).train(mode)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for pairs in scenes[:2]:
            evaluate(model, pairs)
        assert model.training is mode
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    embeddings = embed_pairs(model.train(), scenes[0])
    assert model.training and not embeddings.image.requires_grad and not embeddings.text.requires_grad
    assert embeddings.owner.tolist() == [row for row in range(30) for _ in range(5)]


def test_prototypes_are_the_mean_over_templates(scenes):
    model = model_for(scenes).eval()
    names, templates = ["red circle", "blue square", "green star"], ["a {}", "a photo of a {}.", "the {} there"]
    got = class_prototypes(model, names, templates)
    for name, prototype in zip(names, got, strict=True):
        rows = [model.embed_texts([template.format(name)])[0] for template in templates]
        expected = torch.stack([row / row.norm() for row in rows]).mean(0)
        torch.testing.assert_close(prototype, expected / expected.norm(), rtol=1e-4, atol=1e-5)


def test_a_long_prompt_is_cut_as_in_training(scenes):
    model = model_for(scenes)
    assert class_prototypes(model, ["red " * 40, "blue"], ["a {}"]).isfinite().all()


class Bare(Pairs):
    name, split, image_size = "bare", "val", 32

    def __len__(self):
        return 3

    def pixels(self, index):
        return torch.zeros(len(index), 3, 32, 32, dtype=torch.uint8)

    def captions(self, row):
        return []


def test_what_a_set_has_decides_what_is_scored(scenes):
    model = model_for(scenes)
    with pytest.raises(ClipeduError, match="bare/val has neither captions nor named classes"):
        evaluate(model, Bare())
    labelled = Bare()
    labelled.labels, labelled.class_names = torch.tensor([0, 1, 0]), ["cat", "dog"]
    got = evaluate(model, labelled)
    assert got["top1"] in (pytest.approx(200 / 3), pytest.approx(100 / 3)) and "tr@1" not in got
    both = Bare()
    both.labels, both.class_names, both.captions = labelled.labels, ["cat", "dog"], lambda row: [f"a {row}"]
    got = evaluate(model, both)
    assert got["average"] == pytest.approx((got["tr@1"] + got["ir@1"] + got["top1"]) / 3)
    both.split = "zeroshot"
    assert "tr@1" not in evaluate(model, both)


def test_a_model_that_is_not_ready(scenes):
    with pytest.raises(ClipeduError, match="no tokenizer"):
        evaluate(build_model(Experiment(**BASE), 50), scenes[0])


def test_nan_weights_score_chance(scenes):
    model = model_for(scenes)
    with torch.no_grad():
        model.image_projection.weight.fill_(np.nan)
    got = evaluate(model, scenes[0])
    assert got["tr@1"] == got["ir@1"] == pytest.approx(100 / 30)
