"""Freezing and locking: what is not trained stays in evaluation mode, in copies too."""

import copy

import pytest
import torch

from clipedu import ClipeduError, Experiment
from clipedu.models import build_model
from clipedu.models.locking import freeze, lock


@pytest.fixture
def model():
    return build_model(Experiment(image_size=32), 50)


def test_what_is_locked_is_not_trained_and_stays_in_evaluation_mode(model):
    names = ["image_encoder.layer1", "text_encoder.embeddings.position_embeddings.weight", "image_projection"]
    lock(model, names)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad is not name.startswith(tuple(names)), name
    other = copy.deepcopy(model).train()
    assert not other.image_encoder.layer1.training and other.image_encoder.layer2.training
    assert not any(module.training for module in other.image_encoder.layer1.modules())


def test_locked_batch_norms_keep_weights_and_statistics(model):
    lock(model, ["batch_norms", "text_projection"])
    norms = {name for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    assert norms == set(model.locked) - {"text_projection"}
    before = {name: value.clone() for name, value in model.image_encoder.named_buffers()}
    model.train().image_features(torch.zeros(4, 3, 32, 32, dtype=torch.uint8))
    assert all(torch.equal(value, before[name]) for name, value in model.image_encoder.named_buffers())
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad is (name.rpartition(".")[0] not in {*norms, "text_projection"}), name
    assert model.image_encoder.training


def test_a_model_without_batch_norms_says_so():
    model = build_model(Experiment(image_size=32, image_encoder="vit_nano_patch4_32"), 50)
    with pytest.raises(ClipeduError, match="lock='batch_norms': the model has no batch norms"):
        lock(model, ["batch_norms"])


def test_freezing_is_that_of_the_experiment(model):
    freeze(model, ["text"])
    frozen = build_model(Experiment(image_size=32, text_frozen=True), 50)
    assert model.frozen == frozen.frozen == ("text",)
    own, theirs = (dict(one.named_parameters()) for one in (model, frozen))
    assert all(own[name].requires_grad == theirs[name].requires_grad for name in own)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("image_encoder.layer7", r"Did you mean 'image_encoder.layer\d'"),
        ("image_enc", "Did you mean 'image_encoder'"),
        ("visual", "In it there are: .*image_encoder"),
        ("", "is no part of the model"),
    ],
)
def test_an_unknown_name_is_told_with_what_there_is(model, name, said):
    with pytest.raises(ClipeduError, match=said):
        lock(model, [name])
