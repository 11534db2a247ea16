"""What an experiment minimises, and a training run in every geometry."""

import math

import pytest
import torch

from clipedu import ClipeduError, Experiment, fit, resume, train
from clipedu.geometry import GEOMETRIES, build_geometry
from clipedu.losses import CLIP, Entailed, Foiled
from clipedu.training.datasets import load_training_data
from clipedu.training.objective import build_objective, check_names, start_temperature
from clipedu.training.setup import prepare
from tests.helpers.small_runs import QUIET, assert_same, stop_at


def ready(experiment):
    """A trainer at step 0, with its data."""
    return prepare(experiment, load_training_data(experiment), progress=False)


def test_temperature_starts_where_the_experiment_or_else_the_geometry_says():
    assert start_temperature(Experiment()) == 0.05
    assert start_temperature(Experiment(geometry="lorentz")) == pytest.approx(0.07)
    assert start_temperature(Experiment(geometry="euclidean-squared")) == 1.0
    assert start_temperature(Experiment(geometry="euclidean-squared", temperature=0.2)) == 0.2


def test_objective_is_the_loss_in_the_models_geometry():
    geometry = build_geometry("lorentz", 4)
    experiment = Experiment(geometry="lorentz", entailment=0.2, entailment_options={"min_radius": 0.3})
    objective = build_objective(experiment, geometry, 10)
    assert isinstance(objective, Entailed) and isinstance(objective.loss, CLIP)
    assert objective.geometry is geometry and objective.min_radius == 0.3
    assert isinstance(build_objective(Experiment(), build_geometry("cosine", 4), 10), CLIP)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"geometry": "hyperbolic"}, "unknown geometry 'hyperbolic'"),
        ({"geometry_options": {"curvature": 2}}, "cosine.*curvature"),
        ({"geometry": "lorentz", "geometry_options": {"curvature": -1}}, "curvature"),
        ({"entailment": 0.2}, "cosine.*cones"),
        ({"foils": 1, "loss": "vicreg"}, "vicreg rests on no similarity, so it cannot compare a caption with its foil"),
        ({"entailment": 0.2, "geometry": "euclidean", "loss": "vicreg"}, "vicreg rests on no similarity"),
        ({"loss": "isogclr", "learn_temperature": True}, "isogclr"),
        (
            {"entailment": 0.2, "geometry": "lorentz", "entailment_options": {"radius": 1}},
            "entailment has no option 'radius'. Allowed: min_radius, final_min_radius",
        ),
    ],
)
def test_what_can_not_work_is_told_before_any_data_is_read(changes, message):
    with pytest.raises(ClipeduError, match=message) as error:
        check_names(Experiment(**changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", list(GEOMETRIES))
def test_every_geometry_trains(quick, name):
    experiment = quick.replace(geometry=name, temperature=0.1, learn_temperature=True, epochs=6)
    records = list(train(experiment))
    assert all(math.isfinite(record.loss) for record in records)
    first, last = (sum(record.loss for record in part) / 4 for part in (records[:4], records[-4:]))
    assert last < 0.95 * first
    temperatures = [record.watch["temperature"] for record in records]
    assert temperatures[0] == pytest.approx(0.1, rel=1e-5)
    assert len(set(temperatures)) > 1


@pytest.mark.parametrize("name", ["euclidean-squared", "lorentz"])
def test_entailment_trains_and_is_logged(quick, name):
    options = {"min_radius": 0.3, "final_min_radius": 0.1}
    experiment = quick.replace(geometry=name, entailment=0.2, entailment_options=options)
    trainer = ready(experiment)
    records = list(trainer.run())
    for record in records:
        assert record.terms["entailment"] == pytest.approx(0.2 * record.watch["entailment_angle"], rel=1e-4)
        assert sum(record.terms.values()) == pytest.approx(record.loss, rel=1e-5)
        assert 0 <= record.watch["entailed"] <= 1 and record.watch["image_norm"] > 0
    assert trainer.loss.min_radius == pytest.approx(0.3 - 0.2 * 7 / 8)  # of the last of 8 steps


def test_what_is_learned_beside_the_weights_is_not_decayed_and_is_optimised_once(quick):
    experiment = quick.replace(geometry="lorentz", learn_temperature=True, weight_decay=0.5)
    trainer = ready(experiment)
    decay = {id(p): group["weight_decay"] for group in trainer.optimizer.param_groups for p in group["params"]}
    geometry = trainer.model.geometry
    scalars = [geometry.log_curvature, geometry.log_alpha_image, geometry.log_alpha_text, trainer.loss.logit_scale]
    assert [decay[id(p)] for p in scalars] == [0.0] * 4
    assert sum(len(group["params"]) for group in trainer.optimizer.param_groups) == len(decay)
    before = [p.item() for p in scalars]
    list(trainer.run())
    assert all(p.item() != value for p, value in zip(scalars, before, strict=True))


def test_embeddings_are_tangent_vectors(quick):
    """Every way to an embedding applies the geometry's dimension scaling, and applies it once."""
    kept = {"geometry": "euclidean", "geometry_options": {"start_length": None}}  # alpha is 1 / sqrt(D)
    flat, scaled = (ready(quick.replace(**changes)) for changes in ({}, kept))
    pixels, (ids, mask) = flat.pairs.pixels(torch.arange(4)), flat.pairs.tokens(torch.arange(4))
    alpha = 1 / math.sqrt(quick.embedding_dim)
    with torch.no_grad():
        for model in (flat.model.eval(), scaled.model.eval()):
            assert torch.equal(model((pixels,), (ids, mask))[0], model.encode_image(pixels))
            assert torch.equal(model((pixels,), (ids, mask))[1], model.encode_text(ids, mask))
        torch.testing.assert_close(scaled.model.encode_image(pixels), alpha * flat.model.encode_image(pixels))
        texts = flat.model.embed_texts(["a red star"]), scaled.model.embed_texts(["a red star"])
        torch.testing.assert_close(texts[1], alpha * texts[0])


@pytest.mark.parametrize(("loss", "foils"), [("clip", 0.0), ("sogclr", 0.0), ("clip", 1.0)])
def test_accumulated_steps_are_those_of_the_whole_batch(quick, loss, foils):
    """With a ViT, which has no batch norm: the same training, to rounding."""
    base = quick.replace(loss=loss, foils=foils, image_encoder="test_vit", image_size=160, epochs=1, train_size=48)
    base = base.replace(text_options={"dropout": 0.0, "attention_dropout": 0.0})
    whole, parts = (list(train(base.replace(accumulate=n))) for n in (1, 4))
    assert [r.loss for r in parts] == pytest.approx([r.loss for r in whole], rel=1e-4)
    assert [r.norms["all"]["gradient"] for r in parts] == pytest.approx(
        [r.norms["all"]["gradient"] for r in whole], rel=1e-3
    )


def test_parts_must_fit_the_batch():
    with pytest.raises(ClipeduError, match="batch_size=128 cannot be cut into accumulate=3 equal parts"):
        Experiment(accumulate=3)


# foils


def test_the_foil_term_is_around_all_others():
    experiment = Experiment(geometry="lorentz", entailment=0.2, foils=0.5)
    objective = build_objective(experiment, build_geometry("lorentz", 4), 10)
    assert isinstance(objective, Foiled) and isinstance(objective.loss, Entailed) and objective.weight == 0.5


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "sogclr", "learn_temperature": True, "precision": "bf16"},
        {"geometry": "lorentz", "entailment": 0.2, "checkpointing": True, "holdout": 0.2},
        {"loss": "siglip", "lock": ["text_encoder"], "foil_kinds": ["shape"], "accumulate": 2},
    ],
)
def test_foils_train_beside_all_that_steps_are_made_with(quick, changes):
    records = list(train(quick.replace(foils=1.0, train_size=80, epochs=1, **changes)))
    for record in records:
        assert 0 < record.terms["foils"] < 3 and 0 <= record.watch["foil_accuracy"] <= 1
        assert sum(record.terms.values()) == pytest.approx(record.loss, rel=1e-4) and record.watch["text_norm"] > 0


def test_without_a_weight_the_run_is_the_same_bit_for_bit(quick):
    """Foils are drawn apart from everything else that is."""
    plain, idle = (list(train(quick.replace(foil_kinds=kinds))) for kinds in (["place"], ["shape", "size"]))
    assert [r.loss for r in plain] == [r.loss for r in idle] and "foils" not in plain[0].terms
    first = next(train(quick.replace(foils=1.0, text_options={"dropout": 0.0, "attention_dropout": 0.0})))
    without = next(train(quick.replace(text_options={"dropout": 0.0, "attention_dropout": 0.0})))
    assert first.loss - first.terms["foils"] == pytest.approx(without.loss, rel=1e-4)


def test_foils_are_learned():
    """On scenes that are seen often, of a kind that plain training leaves at chance."""
    settings = {"train_size": 32, "batch_size": 16, "epochs": 40, "embedding_dim": 32, "lr": 3e-3}
    records = train(Experiment(**settings, foils=1.0, foil_kinds=["relation"]))
    accuracy = [record.watch["foil_accuracy"] for record in records]
    assert sum(accuracy[-10:]) / 10 > 0.65, "half of all is chance"


def test_a_run_with_foils_goes_on_as_if_it_had_not_stopped(quick, few_scenes, tmp_path):
    experiment = quick.replace(foils=1.0, checkpoint_every=1)
    whole = fit(experiment, tmp_path / "whole", **QUIET)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 6)  # in the middle of an epoch
        with pytest.raises(KeyboardInterrupt):
            fit(experiment, tmp_path / "stopped", **QUIET)
    assert_same(resume(tmp_path / "stopped", **QUIET), whole)
    assert (whole.history["loss/foils"] > 0).all() and "foil_accuracy" in whole.history
