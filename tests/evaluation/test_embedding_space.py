"""The space of a model: what it holds, its root, and how far the two modalities are from it."""

import math

import numpy as np
import pytest
import torch

from clipedu.data.scenes.dataset import Scenes
from clipedu.evaluation.embedding_space import embed_space, norm_summary, root_distances
from clipedu.geometry import GEOMETRIES, build_geometry
from clipedu.inference.embed import embed_pairs
from tests.evaluation.spaces import CURVED, FLAT, ROUND, Ungraded, noise, seeds


@pytest.mark.parametrize("name", GEOMETRIES)
@seeds
def test_radius_is_the_length_or_on_a_sphere_the_angle_to_the_mean(name, seed):
    image, text = noise(7, 5, seed=seed), noise(9, 5, seed=seed + 10)
    to_image, to_text, root = root_distances(build_geometry(name, 5), image, text)
    if name in ("cosine", "elliptic"):
        units = [v / np.linalg.norm(v) for v in torch.cat([image, text]).numpy()]
        middle = np.mean(units, axis=0) / np.linalg.norm(np.mean(units, axis=0))
        expected = [math.acos(unit @ middle) for unit in units]
        np.testing.assert_allclose(root, middle, atol=1e-12)
    else:
        expected = [math.sqrt(sum(v**2 for v in row)) for row in torch.cat([image, text]).tolist()]
        assert not root.any()
    np.testing.assert_allclose(torch.cat([to_image, to_text]), expected, rtol=1e-9)


@pytest.mark.parametrize("name", [FLAT, CURVED, ROUND])
@seeds
def test_norm_summary_against_a_typed_out_one(name, seed):
    image, text = noise(11, 4, seed=seed), 0.8 * noise(11, 4, seed=seed + 10)
    geometry = build_geometry(name, 4)
    a, b, _ = (side.numpy() for side in root_distances(geometry, image, text))
    wins = sum(1.0 if y < x else 0.5 if y == x else 0.0 for x, y in zip(a, b, strict=True)) / 11
    expected = {"text_nearer_root": wins, "root_gap": np.mean(a - b)}
    for side, radii in (("image", a), ("text", b)):
        expected[f"root_distance_{side}"] = np.median(radii)
        expected |= {f"root_distance_{side}_q{q}": np.percentile(radii, q) for q in (25, 75)}
    summary = norm_summary(geometry, image.float(), text.float())
    assert set(summary) == set(expected)
    for key, value in expected.items():
        assert summary[key] == pytest.approx(value, abs=1e-6), key


def test_norm_summary_by_laws():
    image, text = noise(50, 6), noise(50, 6, seed=1)
    for name in (FLAT, CURVED, ROUND):
        geometry = build_geometry(name, 6)
        one, swapped = norm_summary(geometry, image, text), norm_summary(geometry, text, image)
        assert one["text_nearer_root"] == pytest.approx(1 - swapped["text_nearer_root"])
        assert one["root_gap"] == pytest.approx(-swapped["root_gap"])
        assert norm_summary(geometry, image, image)["text_nearer_root"] == pytest.approx(0.5)
    assert norm_summary(build_geometry(FLAT, 6), image, image / 2)["text_nearer_root"] == 1.0
    assert norm_summary(build_geometry(FLAT, 6), image, image / 2)["root_gap"] > 0


def test_space_of_a_model_on_scenes(model):
    pairs = Scenes("val", 20)
    embeddings = embed_pairs(model, pairs)
    space = embed_space(model, pairs)
    np.testing.assert_allclose(space.image, embeddings.image, atol=1e-5)
    np.testing.assert_allclose(space.text, embeddings.text[::5], atol=1e-5)
    assert space.captions == [pairs.captions(row)[0] for row in range(20)]
    assert len(set(space.phrases)) == len(space.phrases) == len(space.phrase)
    for row in range(20):
        assert [space.phrases[k] for k in space.chain[row]] == pairs.chain(row)
    np.testing.assert_allclose(space.phrase[space.chain[7]], model.embed_texts(pairs.chain(7)), atol=1e-5)
    given = embed_space(model, pairs, embeddings)
    np.testing.assert_allclose(given.phrase, space.phrase)
    np.testing.assert_allclose(space.radius(space.phrase)[space.chain], space.radius(space.phrase[space.chain]))


def test_space_without_chains_has_the_first_captions_as_phrases(model):
    pairs = Ungraded(Scenes("train", 30))
    space = embed_space(model, pairs)
    assert space.chain is None and sorted(space.phrases) == sorted(set(space.captions))
    first = {caption: row for row, caption in reversed(list(enumerate(space.captions)))}
    np.testing.assert_allclose(space.phrase, space.text[[first[caption] for caption in space.phrases]])
