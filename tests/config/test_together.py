"""Settings that do not fit together are named, both of them."""

from __future__ import annotations

import pytest

from clipedu.config.experiment import Experiment
from clipedu.utils.errors import ClipeduError


def message_of(**settings) -> str:
    with pytest.raises(ClipeduError) as caught:
        Experiment(**settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_settings_that_exclude_each_other():
    assert "augment='crop'" in message_of(augment="crop", image_frozen=True)
    assert Experiment(augment="none", image_frozen=True).image_frozen
    assert "batch_size=101" in message_of(batch_size=101, train_size=100)
    assert Experiment(batch_size=100, train_size=100).batch_size == 100
    assert Experiment(batch_size=10**6, train_size=None).train_size is None  # told when the data is read


def test_layer_decay_needs_layers():
    assert "layer_decay=0.5 has no effect" in message_of(layer_decay=0.5, image_frozen=True, text_frozen=True)
    assert Experiment(layer_decay=0.5, image_frozen=True).layer_decay == 0.5


def test_the_encoders_of_a_released_model_need_one():
    assert message_of(image_encoder="released").startswith("image_encoder='released' is that of a released model")
    assert "text_encoder='released'" in message_of(text_encoder="released", start="hf:OWNER/NAME")
    both = {"image_encoder": "released", "text_encoder": "released"}
    assert "image_encoder='released'" in message_of(**both)
    assert Experiment(**both, start="hf:OWNER/NAME").start == "hf:OWNER/NAME"
