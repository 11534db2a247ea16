"""Looking into a model: what is measured is what is there, and what is not known is said."""

import dataclasses
import math

import pytest
import torch

from clipedu import build_model, steady_state
from clipedu.norms import spectra
from clipedu.norms.recipe_balance import TrainingRecipe, scheduled_rates
from clipedu.training.datasets import evaluation_sets
from clipedu.workflow.inspection import inspect_model, inspect_opened
from clipedu.workflow.opening import Opened, Scale
from tests.helpers.blends import opened, small_runs

pytestmark = pytest.mark.xdist_group("blends")


@pytest.fixture(scope="module")
def one():
    return opened(2)[0]


@pytest.fixture(scope="module", autouse=True)
def without_alpha():
    """Which has a test of its own, and takes long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectra, "find_spec", lambda name: None)
        yield


@pytest.fixture(scope="module")
def found(one):
    return inspect_opened(one, evaluation_sets(one.experiment)[0])


def test_norms_and_spectra_are_those_of_the_weights(one, found):
    rows = found.layers.set_index("layer")
    for name, p in one.run.model().named_parameters():
        row, matrix = rows.loc[name], p.detach().double().reshape(len(p), -1)
        assert row["norm"] == pytest.approx(matrix.norm().item(), rel=1e-6) and row["size"] == p.numel()
        assert row["rms"] == pytest.approx(matrix.square().mean().sqrt().item(), rel=1e-6)
        if p.ndim > 1:
            largest = torch.linalg.matrix_norm(matrix, 2).item()
            assert 0.98 * largest < row["spectral"] <= largest * (1 + 1e-5)
            assert row["stable_rank"] == pytest.approx((row["norm"] / row["spectral"]) ** 2)
        else:
            assert math.isnan(row["spectral"]) and math.isnan(row["ratio"])
    assert len(rows) == len(dict(one.model.named_parameters())) and rows["alpha"].isna().all()


def test_a_run_knows_its_recipe_and_its_start(one, found):
    rows = found.layers.set_index("layer")
    assert found.recipe.words.startswith("adamw, peak lr 0.01, weight decay 0.02") and "4 steps" in found.recipe.words
    kernels = rows[rows["normalised"].eq(True) & rows["kind"].eq("matrix")]
    assert len(kernels) == 15 and kernels.index.str.startswith("image_encoder").all()
    assert (kernels["ratio"] - 1).abs().max() < 0.15 and rows[
        "left"
    ].min() > 0.99  # four steps: hardly away from the start
    assert rows["trained"].all() and rows.loc["image_projection.weight", "kind"] == "head"
    from clipedu import build_optimizer

    optimizer = build_optimizer(one.model, "adamw", lr=0.01, weight_decay=0.02)
    name = "image_encoder.layer1.0.conv1.weight"
    assert rows.loc[name, "balance"] == pytest.approx(steady_state(optimizer, name).norm)


def test_scale_scores_and_embeddings(one, found):
    assert found.scale.logit_scale == pytest.approx(20) and found.scale_range == pytest.approx((1, 100))
    assert found.scores["alignment"] == small_runs(2)[0].metrics["alignment"] and found.geometry == "cosine"
    assert found.pairs == "6 pairs of own/val" and found.space.image.shape == (6, 8) and found.tokens is None
    assert any("is no vision transformer" in line for line in found.unknown)
    assert any('pip install "clipedu[inspect]"' in line for line in found.unknown)


def test_the_model_stays_as_it_is(one, found):
    assert all(torch.equal(tensor, one.run.weights()[name]) for name, tensor in one.model.state_dict().items())


def test_a_model_that_is_no_run(one):
    recipe = TrainingRecipe("adamw", 1e-3, 0.1)
    other = Opened("other", one.model, one.experiment, scale=Scale(100.0, -10.0, learned=True))
    found = inspect_opened(other, recipe=recipe)
    assert found.layers["normalised"].isna().all() and found.space is None and found.scale.bias == -10
    assert (found.layers["expected"].dropna() == found.layers["balance"].dropna()).all()
    said = " ".join(found.unknown)
    assert "number of steps is not known (--steps)" in said and "needs pairs" in said and "A table: how many" in said
    bare = inspect_model(one.model)
    assert "No recipe is known" in " ".join(bare.unknown) and "No logit scale is known" in " ".join(bare.unknown)
    assert bare.layers["expected"].isna().all()
    unknown_start = inspect_model(one.model, recipe=TrainingRecipe("adamw", 1e-3, 0.1, rates=scheduled_rates(50, 1e-3)))
    assert "The norms at the start are not known" in " ".join(unknown_start.unknown)


def test_sgd_has_a_balance_by_its_measured_gradients():
    one = opened(1, optimizer="sgdw")[0]
    found = inspect_opened(one)
    rows = found.layers[found.layers["balance"].notna()]
    assert len(rows) > 20 and rows["end"].isna().all() and (rows["expected"] == rows["balance"]).all()
    assert any("not predicted for sgdw, whose steps follow the gradients' size" in line for line in found.unknown)


def test_frozen_layers_have_norms_and_no_recipe():
    one = opened(1, holdout=0.25, image_frozen=True)[0]
    rows = inspect_opened(one).layers.set_index("layer")
    frozen = rows[rows.index.str.startswith("image_encoder")]
    assert not frozen["trained"].any() and frozen["norm"].notna().all() and frozen["expected"].isna().all()


def test_tokens_of_a_vision_transformer(one):
    ex = one.experiment.replace(image_encoder="fractal_vit_nano_patch4_32", image_options={"depth": 1})
    model = build_model(ex, one.model.tokenizer.vocab_size).eval()
    model.tokenizer = one.model.tokenizer
    found = inspect_model(model, evaluation_sets(one.experiment)[0])
    assert found.tokens.norms.shape[:2] == (1, 6) and list(found.tokens.table["block"]) == [0]


def test_a_blend_was_not_trained(one, tmp_path):
    from clipedu.runs.blend_recipe import Recipe
    from clipedu.runs.blended import write_blend
    from clipedu.workflow.opening import open_model

    recipe = Recipe(["a"], [1.0], "own", "clipedu blend a")
    run = write_blend(tmp_path / "blend", one.run.model(), [one.run], recipe, one.experiment)
    found = inspect_opened(open_model(run.folder))
    assert found.recipe is None and "It is a blend of models" in found.unknown[0]


def test_rates_by_tower_are_in_the_recipe_of_a_run(one):
    other = dataclasses.replace(one, experiment=one.experiment.replace(image_lr_scale=0.25))
    scales = inspect_opened(other).recipe.lr_scales
    assert scales and all(name.startswith("image_") and scale == 0.25 for name, scale in scales.items())
