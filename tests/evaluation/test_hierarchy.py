"""Radius, generality, cones and traversals: against typed-out versions, closed forms, and by laws."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from clipedu.data.pairs import Pairs
from clipedu.data.scenes.captions import holds
from clipedu.data.scenes.dataset import Scenes
from clipedu.evaluation.embedding_space import Space, embed_space, norm_summary, root_distances
from clipedu.evaluation.hierarchy import (
    cone_scores,
    generality_scores,
    hierarchy_scores,
    matched_min_radius,
    mismatched,
)
from clipedu.evaluation.traversals import ROOT, Stop, traversal, walk_to_root
from clipedu.geometry import GEOMETRIES, build_geometry
from clipedu.inference.embed import embed_pairs
from clipedu.utils.errors import ClipeduError
from clipedu.utils.statistics import rank_correlation

FLAT, CURVED, ROUND = "euclidean-squared", "lorentz", "cosine"
seeds = pytest.mark.parametrize("seed", range(3))


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def vectors(*rows):
    return torch.tensor(rows, dtype=torch.float64)


# radius


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


# rank correlation


@seeds
def test_rank_correlation_is_scipys_with_ties_and_along_the_last_axis(seed):
    x = (2 * noise(5, 12, seed=seed)).round().numpy()  # many ties
    y = (x + noise(5, 12, seed=seed + 10).numpy()).round()
    expected = [spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(rank_correlation(x, y), expected, rtol=1e-12)
    np.testing.assert_allclose(rank_correlation(x, np.exp(x)), 1)
    np.testing.assert_allclose(rank_correlation(x, -x), -1)


def test_rank_correlation_of_no_order_is_zero():
    assert rank_correlation(np.ones(6), np.arange(6)) == 0
    assert rank_correlation(np.arange(6), np.zeros(6)) == 0


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


# traversal


ORACLE = vectors([1.5, -0.2, 0.3])[0]  # an image 1.5427248621 from the root


@pytest.mark.parametrize("name", [FLAT, "euclidean", CURVED, "lorentz-squared", "lorentz-inner"])
def test_walk_passes_the_captions_on_its_way_at_equal_distances(name):
    weights = torch.tensor([1, 0.75, 0.5, 0.25], dtype=torch.float64)
    text = torch.cat([weights[:, None] * ORACLE, -ORACLE[None]])
    stops = walk_to_root(build_geometry(name, 3), ORACLE, text, ["d", "c", "b", "a", "away"], torch.zeros(3), steps=5)
    assert [stop.caption for stop in stops] == ["d", "c", "b", "a", ROOT]
    np.testing.assert_allclose([stop.share for stop in stops], [0, 0.25, 0.5, 0.75, 1])
    expected = [1.5427248621, 1.1570436465, 0.7713624310, 0.3856812155, 0]
    np.testing.assert_allclose([stop.distance for stop in stops], expected, atol=1e-9)


def test_walk_on_a_sphere_is_uniform_in_the_angle():
    root, angle = vectors([0.6, 0, 0.8])[0], 0.7392823892
    start = ORACLE / ORACLE.norm()
    across = (start - (start @ root) * root) / math.sin(angle)
    text = torch.stack([math.cos(a) * root + math.sin(a) * across for a in (angle, angle / 2)])
    stops = walk_to_root(build_geometry(ROUND, 3), ORACLE, text, ["far", "middle"], root, steps=5)
    assert [stop.caption for stop in stops] == ["far", "middle", ROOT]
    np.testing.assert_allclose([stop.distance for stop in stops], [angle, 0.75 * angle, 0.25 * angle], atol=1e-9)
    at_half = walk_to_root(build_geometry(ROUND, 3), ORACLE, text, ["far", "middle"], root, steps=3)[1]
    assert isinstance(at_half, Stop) and at_half[:2] == (0.5, "middle")
    assert at_half.distance == pytest.approx(angle / 2)


@pytest.mark.parametrize("name", GEOMETRIES)
@seeds
def test_walk_names_each_caption_once_and_ends_at_the_root(name, seed):
    image, text = noise(4, seed=seed), noise(30, 4, seed=seed + 10)
    geometry = build_geometry(name, 4)
    root = geometry.root(torch.cat([image[None], text]))
    stops = walk_to_root(geometry, image, text, [f"t{k}" for k in range(30)], root)
    captions = [stop.caption for stop in stops]
    assert len(set(captions)) == len(captions) and ROOT in captions
    assert stops[0].caption == f"t{int(geometry.similarity(image[None], text)[0].argmax())}" or stops[0].caption == ROOT
    assert all(a.share < b.share and a.distance > b.distance for a, b in zip(stops, stops[1:], strict=False))


@pytest.mark.parametrize("name", [FLAT, CURVED])
def test_cones_keep_captions_that_do_not_entail_the_point(name):
    image = vectors([4, 0, 0])[0]
    text = vectors(
        [2, 0, 0], [3.6, 0.5, 0], [4.5, 0, 0]
    )  # on the way; beside it; beyond, so the image is not in its cone
    names = ["generic", "beside", "beyond"]
    free = [stop.caption for stop in walk_to_root(build_geometry(name, 3), image, text, names, torch.zeros(3))]
    kept = walk_to_root(build_geometry(name, 3), image, text, names, torch.zeros(3), min_radius=0.1)
    assert free[0] != "generic"
    assert [stop.caption for stop in kept] == ["generic", ROOT]
    assert kept[1].distance < 2  # as soon as the way is past the caption, it entails no more
    with pytest.raises(ClipeduError):
        walk_to_root(build_geometry(ROUND, 3), image, text, names, image, min_radius=0.1)


# with a model


@pytest.fixture(scope="module")
def model(finished):
    return finished.model()


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


class Ungraded(Pairs):
    """Scenes of which nothing is known but pixels and captions, as of photographs."""

    def __init__(self, scenes):
        self.name, self.split, self.image_size, self.scenes = scenes.name, scenes.split, scenes.image_size, scenes

    def __len__(self):
        return len(self.scenes)

    def pixels(self, index):
        return self.scenes.pixels(index)

    def captions(self, row):
        return self.scenes.captions(row)


def test_space_without_chains_has_the_first_captions_as_phrases(model):
    pairs = Ungraded(Scenes("train", 30))
    space = embed_space(model, pairs)
    assert space.chain is None and sorted(space.phrases) == sorted(set(space.captions))
    first = {caption: row for row, caption in reversed(list(enumerate(space.captions)))}
    np.testing.assert_allclose(space.phrase, space.text[[first[caption] for caption in space.phrases]])
    with pytest.raises(ClipeduError, match="takes a set with chains of captions"):
        hierarchy_scores(space, pairs)


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


def test_traversal_embeds_texts_or_takes_embeddings(model):
    texts = ["a shape", "a red star", "a small red star on a blue background"]
    space = embed_space(model, Scenes("val", 5))
    given = traversal(model, space.image[0], (model.embed_texts(texts), texts), space.root)
    assert traversal(model, space.image[0], texts, space.root) == given and given[-1].caption == ROOT
