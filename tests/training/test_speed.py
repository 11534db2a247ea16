"""Gradient checkpointing gives the same numbers; what cannot be compiled runs as it is."""

from __future__ import annotations

import logging

import pytest
import torch

from clipedu.config.experiment import Experiment
from clipedu.training import speed
from clipedu.training.datasets import load_training_data
from clipedu.training.setup import prepare
from clipedu.training.speed import compile_encoders
from tests.helpers.errors import message_of

SMALL = {"train_size": 24, "batch_size": 8, "epochs": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def data():
    return load_training_data(Experiment(**SMALL))


def trained(data, **changes):
    trainer = prepare(Experiment(**SMALL, **changes), data, progress=False)
    losses = [record.loss for record in trainer.run()]
    return losses, {**trainer.model.state_dict(), **trainer.loss.state_dict()}, trainer


@pytest.mark.parametrize(
    ("image_encoder", "accumulate"), [("test_resnet", 2), ("test_resnet", 1), ("vit_nano_patch8_64", 1)]
)
def test_checkpointing_gives_the_same_numbers(data, image_encoder, accumulate, monkeypatch):
    """Batch norms' running averages and counts too, and dropout (of the text encoder)."""
    calls = []
    original = torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", lambda *a, **k: calls.append(1) or original(*a, **k))
    options = {"img_size": 32} if "vit" in image_encoder else {}
    same = {"accumulate": accumulate, "image_encoder": image_encoder, "image_options": options}
    plain, weights, _ = trained(data, **same)
    assert not calls
    again, others, trainer = trained(data, checkpointing=True, **same)
    assert plain == again and all(torch.equal(weights[name], others[name]) for name in weights)
    assert any(getattr(m, "gradient_checkpointing", False) for m in trainer.model.text_encoder.modules())


def test_only_trained_encoders_are_checkpointed(data):
    _, _, trainer = trained(data, checkpointing=True, text_frozen=True)
    assert not any(getattr(m, "gradient_checkpointing", False) for m in trainer.model.text_encoder.modules())


def test_an_encoder_without_checkpointing_is_refused(data, monkeypatch):
    import timm

    def refuse(self, enable=True):
        raise AssertionError("gradient checkpointing not supported")

    monkeypatch.setattr(timm.models.resnet.ResNet, "set_grad_checkpointing", refuse)
    message = message_of(lambda: trained(data, checkpointing=True))
    assert (
        message.startswith("checkpointing=True cannot be used with image encoder 'test_resnet'")
        and "accumulate=2" in message
    )


def test_compiled_encoders_give_about_the_same_numbers(data, monkeypatch):
    """With a backend that compiles nothing, so that it takes no minute."""
    plain, weights, _ = trained(data, text_frozen=True)
    monkeypatch.setattr(
        "clipedu.training.setup.compile_encoders", lambda model, ex: compile_encoders(model, ex, backend="eager")
    )
    compiled, others, trainer = trained(data, compile="default", text_frozen=True)
    assert compiled == pytest.approx(plain, rel=1e-5) and list(weights) == list(others)
    assert trainer.model.image_encoder._compiled_call_impl is not None
    assert trainer.model.text_encoder._compiled_call_impl is None  # frozen, its features are computed once


def test_what_cannot_be_compiled_runs_as_it_is(data, monkeypatch, caplog):
    def no_compiler(graph, inputs):
        raise RuntimeError("no C++ compiler\nand much more")

    monkeypatch.setattr(
        "clipedu.training.setup.compile_encoders", lambda model, ex: compile_encoders(model, ex, backend=no_compiler)
    )
    plain, weights, _ = trained(data, text_frozen=True)
    with caplog.at_level(logging.WARNING, "clipedu"):
        same, others, trainer = trained(data, compile="default", text_frozen=True)
    assert plain == same and all(torch.equal(weights[name], others[name]) for name in weights)
    assert trainer.model.image_encoder._compiled_call_impl is None
    said = [record.getMessage() for record in caplog.records if "cannot be compiled" in record.getMessage()]
    assert len(said) == 1 and "'test_resnet'" in said[0] and "and much more" not in said[0]


def test_frozen_encoders_are_left_alone(data, monkeypatch):
    monkeypatch.setattr(speed, "_forward", None)  # would fail if it were called
    _, _, trainer = trained(data, compile="default", image_frozen=True, text_frozen=True)
    assert trainer.model.image_encoder._compiled_call_impl is None
