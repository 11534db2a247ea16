"""Walks to the root against points whose order is known."""

import math

import numpy as np
import pytest
import torch

from clipedu.data.scenes.dataset import Scenes
from clipedu.evaluation.embedding_space import embed_space
from clipedu.evaluation.traversals import ROOT, Stop, traversal, walk_to_root
from clipedu.geometry import GEOMETRIES, build_geometry
from clipedu.utils.errors import ClipeduError
from tests.evaluation.spaces import CURVED, FLAT, ROUND, noise, seeds, vectors

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


def test_traversal_embeds_texts_or_takes_embeddings(model):
    texts = ["a shape", "a red star", "a small red star on a blue background"]
    space = embed_space(model, Scenes("val", 5))
    given = traversal(model, space.image[0], (model.embed_texts(texts), texts), space.root)
    assert traversal(model, space.image[0], texts, space.root) == given and given[-1].caption == ROOT
