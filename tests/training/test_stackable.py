"""Experiments are divided into stacks by what must be equal, and told why they cannot be in one."""

import pytest

from clipedu.config.experiment import Experiment
from clipedu.geometry import build_geometry
from clipedu.losses import build_loss
from clipedu.training.objective import build_objective
from clipedu.training.stackable import constants, plan_stacks, stack_key, structure, why_alone

BASE = Experiment(image_frozen=True, text_frozen=True)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"image_frozen": False}, "its image encoder is trained"),
        ({"text_frozen": False}, "its text encoder is trained"),
        ({"geometry": "lorentz"}, "geometry='lorentz'"),
        ({"geometry": "euclidean-inner", "entailment": 0.2}, "entailment=0.2"),
        ({"optimizer": "muon"}, "optimizer='muon'"),
        ({"optimizer_options": {"amsgrad": True}}, "option 'amsgrad'"),
        ({"accumulate": 2}, "accumulate=2"),
        ({"ema_decay": 0.9}, "ema_decay=0.9"),
        ({"evaluate_every": 10}, "evaluate_every=10"),
        ({"compile": "default"}, "compile='default'"),
        ({"checkpointing": True}, "checkpointing=True"),
        ({"track": ["tensorboard"]}, "track=['tensorboard']"),
        ({"batch_size": 8192, "train_size": 8192}, "tile by tile"),
    ],
)
def test_what_cannot_be_in_a_stack_is_told(changes, why):
    assert why in why_alone(BASE.replace(**changes))


def test_what_can():
    large = {"batch_size": 8192, "train_size": 8192}
    for changes in ({}, {"loss": "vicreg", **large}, {"optimizer_options": {"amsgrad": False, "fused": True}}):
        assert why_alone(BASE.replace(**changes)) == ""


def test_numbers_may_differ_and_operations_may_not():
    free = [
        {"lr": 1e-4, "weight_decay": 0.0, "seed": 3, "warmup": 0.0, "schedule": "constant", "clip_grad": 1.0},
        {"temperature": 0.2, "optimizer_options": {"betas": [0.8, 0.9], "eps": 1e-5}, "checkpoint_every": 5},
    ]
    other = [
        *({"loss": "cyclip"}, {"learn_temperature": True}, {"optimizer": "adam"}, {"epochs": 3}, {"batch_size": 64}),
        *({"embedding_dim": 64}, {"optimizer_options": {"decay_law": "corrected"}}, {"train_size": 999}),
        *({"geometry": "euclidean-inner"}, {"norms_every": 3}, {"image_size": 64}, {"data": "elsewhere"}),
    ]
    assert all(stack_key(BASE.replace(**changes)) == stack_key(BASE) for changes in free)
    assert all(stack_key(BASE.replace(**changes)) != stack_key(BASE) for changes in other)


def test_options_of_a_loss():
    sogclr = BASE.replace(loss="sogclr")
    assert stack_key(sogclr.replace(loss_options={"gamma": 0.3, "rho": 1})) == stack_key(sogclr)
    for options in ({"form": "course"}, {"scale": "clip"}, {"gamma_schedule": "cosine"}):
        assert stack_key(sogclr.replace(loss_options=options)) != stack_key(sogclr)
    isogclr = BASE.replace(loss="isogclr", temperature=0.02)
    assert stack_key(isogclr.replace(loss_options={"temperature_range": [0.01, 0.05]})) != stack_key(isogclr)


def test_momentum_of_none_is_another_operation():
    sgd = BASE.replace(optimizer="sgd", lr=0.1)
    assert stack_key(sgd.replace(optimizer_options={"momentum": 0.5})) == stack_key(sgd)
    assert stack_key(sgd.replace(optimizer_options={"momentum": 0.0})) != stack_key(sgd)
    assert stack_key(sgd.replace(optimizer_options={"nesterov": False})) != stack_key(sgd)


def test_a_plan_keeps_the_order():
    many = [
        BASE,
        BASE.replace(loss="dcl"),
        BASE.replace(lr=1e-4),
        BASE.replace(optimizer="lamb"),
        BASE.replace(loss="dcl", seed=1),
    ]
    plan = plan_stacks(many)
    assert plan.stacks == [[0, 2], [1, 4]] and list(plan.alone) == [3]
    assert plan_stacks([]).stacks == []


def test_the_numbers_of_a_loss_are_found():
    loss = build_loss("sogclr", temperature=0.3, num_samples=5, gamma=0.4)
    assert constants(loss)["gamma"] == 0.4 and constants(loss)["first_temperature"] == 0.3
    words, arrays = structure(loss)
    assert words["form"] == "log" and arrays == ["log_u"]
    clamped, free = (build_loss("isogclr", num_samples=5, largest_slope=most) for most in (5.0, None))
    assert "largest_slope" not in constants(clamped) and structure(clamped) != structure(free)
    entailed = build_objective(BASE.replace(learn_temperature=True), build_geometry("cosine", 4), 2)
    assert structure(entailed)[1] == ["logit_scale"]
