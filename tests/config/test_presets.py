"""Presets: what they hold, and that they are what they promise."""

from __future__ import annotations

import dataclasses

import pytest

from clipedu.config.experiment import Experiment
from clipedu.config.presets import PRESETS
from clipedu.utils.errors import ClipeduError


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_holds_only_what_differs_from_the_defaults(name):
    default = Experiment()
    fields = {spec.name for spec in dataclasses.fields(Experiment)}
    for key, value in PRESETS[name].settings.items():
        assert key in fields and (value != getattr(default, key) or name == "course"), key
    assert PRESETS["laptop"].settings == {}


def test_presets():
    assert {"tiny", "laptop", "course"} <= set(PRESETS)
    for name, preset in PRESETS.items():
        assert len(preset.description) > 20 and "\n" not in preset.description
        for optimizer, changes in preset.per_optimizer.items():
            assert Experiment.preset(name, optimizer=optimizer, **changes).optimizer == optimizer
    with pytest.raises(ClipeduError, match="unknown preset 'labtop'. Did you mean 'laptop'.*tiny, laptop, .*course"):
        Experiment.preset("labtop")
    assert Experiment.preset("tiny", lr=0.5).lr == 0.5


def test_the_course_preset_is_the_recipe_of_the_course():
    ex = Experiment.preset("course")
    assert (ex.image_encoder, ex.text_encoder, ex.image_weights, ex.text_weights) == (
        "resnet50", "distilbert-base-uncased", "pretrained", "pretrained")  # fmt: skip
    assert (ex.image_size, ex.text_length, ex.embedding_dim, ex.text_pooling) == (256, 30, 256, "cls")
    assert (ex.temperature, ex.lr, ex.weight_decay, ex.batch_size, ex.epochs) == (0.01, 2e-4, 0.02, 128, 30)
    assert (ex.loss, ex.optimizer, ex.schedule, ex.augment) == ("clip", "adamw", "cosine", "crop-flip-randaugment")
