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


def test_foils_need_scenes_a_trained_text_tower_and_a_kind():
    assert message_of(foils=0.5, data="flickr8k") == (
        "foils=0.5 with data='flickr8k': only of scenes it is known what makes a caption false. Set foils=0 or data='scenes'"
    )
    assert message_of(foils=1, text_frozen=True).startswith("foils=1 with text_frozen=True: features of a frozen text")
    assert message_of(foils=1, foil_kinds=[]) == "foils=1 with foil_kinds=[]: give at least one, or set foils=0"
    assert message_of(foils=-1) == "foils=-1 must be at least 0"
    assert message_of(foil_kinds=["place", "number"]).startswith("unknown foil_kinds 'number'")
    assert "'place' is given twice" in message_of(foil_kinds=["place", "place"])
    idle = Experiment(data="flickr8k", text_frozen=True, foil_kinds=[])
    assert idle.foils == 0.0 and Experiment().foil_kinds == ["place", "relation", "binding"]


def test_layer_decay_needs_layers():
    assert "layer_decay=0.5 has no effect" in message_of(layer_decay=0.5, image_frozen=True, text_frozen=True)
    assert Experiment(layer_decay=0.5, image_frozen=True).layer_decay == 0.5


def test_the_encoders_of_a_released_model_need_one():
    assert message_of(image_encoder="released").startswith("image_encoder='released' is that of a released model")
    assert "text_encoder='released'" in message_of(text_encoder="released", start="hf:OWNER/NAME")
    both = {"image_encoder": "released", "text_encoder": "released"}
    assert "image_encoder='released'" in message_of(**both)
    assert Experiment(**both, start="hf:OWNER/NAME").start == "hf:OWNER/NAME"
