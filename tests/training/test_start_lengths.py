"""Embeddings are as long at the start as the rooted geometries' formulas need them."""

from __future__ import annotations

import math

import pytest
import torch

from clipedu import ClipeduError, Experiment
from clipedu.data.batches import batches
from clipedu.geometry import GEOMETRIES, build_geometry
from clipedu.geometry.registry import names_with_cones
from clipedu.training.datasets import load_training_data
from clipedu.training.setup import prepare
from clipedu.training.start_lengths import set_start_lengths

pytestmark = pytest.mark.xdist_group("start lengths")
TINY = Experiment.preset("tiny", train_size=256, device="cpu")


@pytest.fixture(scope="module")
def data():
    return load_training_data(TINY)


def lengths(trainer, epoch: int) -> list[float]:
    """Mean lengths of images and texts of an epoch's first batch, as the first step would encode it."""
    batch = next(batches(trainer.pairs, batch_size=128, seed=trainer.experiment.seed, epoch=epoch))
    with torch.no_grad():
        return [x.norm(dim=1).mean().item() for x in trainer.model.train()(batch.image, batch.text)]


def alphas(trainer) -> list[float]:
    return [trainer.model.geometry.read(f"alpha_{side}").item() for side in ("image", "text")]


@pytest.mark.parametrize("geometry", names_with_cones())
def test_images_and_texts_are_about_as_long_as_1(geometry, data):
    trainer = prepare(TINY.replace(geometry=geometry), data)
    for epoch in (0, 3):
        assert lengths(trainer, epoch) == [pytest.approx(1, abs=0.1)] * 2
    assert GEOMETRIES[geometry].defaults["start_length"] == 1.0


def test_without_it_they_are_what_the_features_make_them(data):
    """So it was before: the figures in the header of `clipedu.geometry.rooted`."""
    trainer = prepare(TINY.replace(geometry="lorentz", geometry_options={"start_length": None}), data)
    image, text = lengths(trainer, 0)
    assert alphas(trainer) == [pytest.approx(128**-0.5)] * 2 and 0.5 < image < 0.9 and 0.2 < text < 0.4


def test_it_changes_nothing_else_and_comes_from_the_seed_alone(data):
    base = TINY.replace(geometry="lorentz")
    one = prepare(base, data)
    plain = prepare(base.replace(geometry_options={"start_length": None}), data)
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, plain.model.state_dict()[name]) == (not name.startswith("geometry.log_alpha")), name
    for changes in ({"batch_size": 32}, {"accumulate": 4}, {"loss": "sogclr"}, {"precision": "bf16"}):
        assert alphas(prepare(base.replace(**changes), data)) == alphas(one)
    assert alphas(prepare(base.replace(seed=1), data)) != alphas(one)
    long = prepare(base.replace(geometry_options={"start_length": 2.0}), data)
    assert alphas(long) == [pytest.approx(2 * alpha, rel=1e-5) for alpha in alphas(one)]


def test_random_numbers_and_the_mode_stay_and_a_model_to_start_from_keeps_its_own(data):
    trainer = prepare(TINY.replace(geometry="euclidean"), data)
    model, geometry = trainer.model.eval(), trainer.model.geometry
    geometry.log_alpha_image.fill_(-1.0)
    before = torch.get_rng_state()
    set_start_lengths(model, trainer.experiment.replace(start="a run"), data.train)
    assert geometry.log_alpha_image == -1.0
    set_start_lengths(model, trainer.experiment, data.train)
    assert geometry.log_alpha_image != -1.0
    assert torch.equal(torch.get_rng_state(), before) and not model.training


def test_where_alpha_may_not_be_larger_the_projection_is(data):
    """MERU's limit, alpha <= 1, holds: short features, as of a narrow embedding, are made longer themselves."""
    changes = {"geometry": "lorentz", "embedding_dim": 2}
    trainer = prepare(TINY.replace(**changes), data)
    assert lengths(trainer, 0) == [pytest.approx(1, abs=0.1)] * 2
    assert alphas(trainer)[1] == 1.0 and max(alphas(trainer)) <= 1
    plain = prepare(TINY.replace(**changes, geometry_options={"start_length": None}), data)
    grown = trainer.model.text_projection.weight / plain.model.text_projection.weight
    assert grown.min() > 1.01 and torch.allclose(grown, grown.mean())


def test_features_without_a_length_leave_alpha_as_it_is():
    geometry = build_geometry("euclidean", 16)
    for length in (0.0, math.nan, math.inf):
        assert geometry.start_with(length, "text") == 1.0
    assert geometry.read("alpha_text") == 0.25
    with pytest.raises(ClipeduError, match="unknown side"):
        geometry.start_with(1.0, "sound")
    for wrong in (0, -1, "1", math.inf):
        with pytest.raises(ClipeduError, match="start_length must be a number > 0, got "):
            build_geometry("lorentz", 16, start_length=wrong)
