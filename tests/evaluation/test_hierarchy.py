"""Radius, generality, cones and traversals: against typed-out versions, closed forms, and by laws."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from clipedu.data.scenes.captions import holds
from clipedu.data.scenes.dataset import Scenes
from clipedu.evaluation.embedding_space import Space, embed_space
from clipedu.evaluation.hierarchy import (
    cone_scores,
    generality_scores,
    hierarchy_scores,
    matched_min_radius,
    mismatched,
)
from clipedu.geometry import build_geometry
from clipedu.inference.embed import embed_pairs
from clipedu.utils.errors import ClipeduError
from tests.evaluation.spaces import CURVED, FLAT, ROUND, Ungraded, noise, seeds, vectors

# generality


def a_space(radius, name=FLAT) -> Space:
    """Chains whose caption on row i, level k has this distance to the root; all captions differ."""
    radius = torch.as_tensor(radius, dtype=torch.float64)
    directions = torch.nn.functional.normalize(noise(*radius.shape, 5), dim=-1)
    phrase = (directions * radius[..., None]).flatten(0, 1)
    rows = noise(len(radius), 5)
    names = [f"phrase {k}" for k in range(len(phrase))]
    chain = torch.arange(len(phrase)).reshape(radius.shape)
    return Space(build_geometry(name, 5), rows, rows, names[: len(radius)], names, phrase, chain)


@pytest.mark.parametrize("name", [FLAT, CURVED])
def test_generality_within_chains_and_pooled(name):
    level = torch.arange(6.0)
    shells = (1 + level + torch.linspace(0, 0.5, 8)[:, None]).double()
    scores = generality_scores(a_space(shells, name))
    assert scores["generality_within"] == pytest.approx(1)
    assert scores["generality_pooled"] == pytest.approx(math.sqrt(1 - (8**2 - 1) / (48**2 - 1)))
    assert generality_scores(a_space((7 - level).repeat(8, 1), name))["generality_within"] == pytest.approx(-1)
    scores = generality_scores(a_space(1 + level / 100 + torch.arange(8.0)[:, None], name))  # no common shells
    assert scores["generality_within"] == pytest.approx(1) and 0 < scores["generality_pooled"] < 0.3


@seeds
def test_generality_against_scipy(seed):
    radius = 1 + noise(7, 6, seed=seed).abs() + 0.3 * torch.arange(6)
    scores = generality_scores(a_space(radius))
    within = np.mean([spearmanr(row, range(6)).statistic for row in radius.tolist()])
    pooled = spearmanr(radius.flatten(), np.tile(range(6), 7)).statistic
    assert scores == pytest.approx({"generality_within": within, "generality_pooled": pooled})


# cones


def test_mismatched_claims_are_false_of_the_other_scene():
    pairs = Scenes("val", 31)
    other, false = mismatched(pairs)
    assert sorted(other.tolist()) == list(range(31)) and not (other == torch.arange(31)).any()
    assert not false[:, 0].any() and false[:, 5].all() and 0 < false[:, 1].sum() < 31
    for row in range(31):
        for level, claim in enumerate(pairs.chain_meanings(row)):
            scene = pairs.attributes[other[row] : other[row] + 1]
            assert bool(false[row, level]) != bool(holds(claim, scene))


def inside(apex, point, k):
    """Is a point in the Euclidean cone at apex, with K = k? Typed out."""
    way = point - apex
    exterior = math.acos(np.clip(way @ apex / (np.linalg.norm(way) * np.linalg.norm(apex)), -1, 1))
    return exterior <= math.asin(min(1, k / np.linalg.norm(apex)))


@seeds
def test_cone_scores_against_a_typed_out_euclidean_version(seed):
    rows = 9
    axis = 3 * noise(rows, 1, 3, seed=seed)
    chain = torch.arange(1, 7)[:, None] * axis + 0.7 * noise(rows, 6, 3, seed=seed + 10)
    image = 8 * axis[:, 0] + noise(rows, 3, seed=seed + 20)
    other = (torch.arange(rows) + 4) % rows
    false = noise(rows, 6, seed=seed + 30) > 0
    false[0] = True
    geometry, k = build_geometry(FLAT, 3), 1.5
    scores = cone_scores(geometry, image, chain, other, false, k)
    c, i, o = chain.numpy(), image.numpy(), other.numpy()
    steps = [(a, b) for a in range(1, 6) for b in range(a + 1, 6)]

    def chance(points_of_level, a):
        kept = [r for r in range(rows) if false[r, a]]
        return np.mean([inside(c[r, a], points_of_level[o[r]], k) for r in kept])

    expected = {
        "cone_captions": np.mean([inside(c[r, a], c[r, b], k) for r in range(rows) for a, b in steps]),
        "cone_captions_chance": np.mean([chance(c[:, b], a) for a, b in steps]),
        "cone_images": np.mean([inside(c[r, a], i[r], k) for r in range(rows) for a in range(1, 6)]),
        "cone_images_chance": np.mean([chance(i, a) for a in range(1, 6)]),
        "cone_saturated": np.mean(np.linalg.norm(c[:, 1:], axis=-1) <= k),
    }
    assert scores == pytest.approx(expected)
    assert scores["cone_captions"] > scores["cone_captions_chance"]


@pytest.mark.parametrize("name", [FLAT, CURVED])
def test_rays_are_in_their_own_cones_and_in_no_others(name):
    ray = torch.nn.functional.normalize(noise(1, 4), dim=-1) * torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None]
    chain = ray[:, None] * (0.5 + torch.arange(6))[:, None]
    other, false = torch.tensor([1, 2, 3, 0]), torch.ones(4, 6, dtype=torch.bool)
    scores = cone_scores(build_geometry(name, 4), 7 * ray, chain.double(), other, false)
    assert scores == dict.fromkeys(scores, 0.0) | {"cone_captions": 1.0, "cone_images": 1.0}
    wide = cone_scores(build_geometry(name, 4), 7 * ray, chain.double(), other, false, min_radius=1e3)
    assert wide["cone_saturated"] == 1.0


def test_a_sphere_has_no_cones():
    chain = noise(4, 6, 3)
    with pytest.raises(ClipeduError):
        cone_scores(build_geometry(ROUND, 3), chain[:, 0], chain, torch.arange(4), torch.ones(4, 6, dtype=torch.bool))


@pytest.mark.parametrize("radius", [0.1, 1.0, 3.0])
def test_matched_min_radius_in_closed_form(radius):
    assert matched_min_radius(build_geometry(FLAT, 3), radius) == pytest.approx(radius, rel=1e-5)
    for c in (0.1, 1.0, 4.0):
        geometry = build_geometry(CURVED, 3, curvature=c).double()
        expected = math.sinh(math.sqrt(c) * radius) / 2
        assert matched_min_radius(geometry, radius) == pytest.approx(expected, rel=1e-5)
        apex = vectors([0.999 * radius, 0, 0], [1.001 * radius, 0, 0])
        widths = geometry.half_aperture(apex, matched_min_radius(geometry, radius)).tolist()
        assert widths[0] == pytest.approx(math.pi / 2) and widths[1] < math.pi / 2 - 1e-3


# with a model


@pytest.mark.parametrize("name", [FLAT, CURVED, ROUND])
def test_hierarchy_scores_of_a_model(model, name):
    pairs = Scenes("val", 40)
    before, model.geometry = model.geometry, build_geometry(name, 16)
    try:
        space = embed_space(model, pairs, embed_pairs(model, pairs))
        scores = hierarchy_scores(space, pairs)
        assert hierarchy_scores(embed_space(model, pairs), pairs) == pytest.approx(scores)
        if name != ROUND:
            assert hierarchy_scores(space, pairs, min_radius=1e-6)["cone_saturated"] == 0
    finally:
        model.geometry = before
    cones = {"cone_captions", "cone_captions_chance", "cone_images", "cone_images_chance", "cone_saturated"}
    assert set(scores) == {"generality_within", "generality_pooled"} | (cones if name != ROUND else set())
    assert all(type(value) is float and -1 <= value <= 1 for value in scores.values())
    if name != ROUND:  # as many half-spaces in every geometry, unless K is given
        assert scores["cone_saturated"] == pytest.approx(0.5, abs=0.02)


def test_a_single_row_has_no_other_to_compare_with(model):
    pairs = Scenes("val", 1)
    with pytest.raises(ClipeduError, match="with 1 rows"):
        hierarchy_scores(embed_space(model, pairs), pairs)


def test_photographs_have_no_hierarchy(model):
    pairs = Ungraded(Scenes("train", 5))
    with pytest.raises(ClipeduError, match="takes a set with chains of captions"):
        hierarchy_scores(embed_space(model, pairs), pairs)
