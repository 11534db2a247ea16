"""A dual encoder from an experiment: seeds, layouts, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from clipedu.config.experiment import Experiment
from clipedu.models import DualEncoder, build_model
from clipedu.utils.errors import ClipeduError

VOCAB = 50
BASE = {
    "text_options": {"dim": 16, "n_heads": 2, "n_layers": 2, "hidden_dim": 32},
    "embedding_dim": 8,
    "text_length": 12,
}


def built(**changes) -> DualEncoder:
    return build_model(Experiment(**{**BASE, **changes}), VOCAB)


@pytest.fixture(scope="module")
def plain() -> DualEncoder:
    """For reading only: one model for all tests that don't change it."""
    return built().eval()


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_the_seed_alone_decides_the_weights(plain):
    torch.manual_seed(123)
    one = built(seed=4)
    torch.manual_seed(321)
    torch.rand(17)
    np.random.seed(3)
    assert same(one, built(seed=4))
    other = built(seed=5)
    for name in (
        "image_encoder.conv1.0.weight",
        "text_projection.weight",
        "text_encoder.embeddings.word_embeddings.weight",
    ):
        assert not torch.equal(one.get_parameter(name), other.get_parameter(name))


def test_the_global_random_state_is_untouched():
    torch.manual_seed(9)
    before = torch.get_rng_state()
    built()
    assert torch.equal(before, torch.get_rng_state())


def test_one_encoder_does_not_change_the_others_weights(plain):
    """An ablation shows only what differs."""
    other = built(image_encoder="test_vit", image_options={"img_size": 32, "patch_size": 8})
    assert same(other.text_encoder, plain.text_encoder) and same(other.text_projection, plain.text_projection) is False
    other = built(text_options={**BASE["text_options"], "n_layers": 1})
    assert same(other.image_encoder, plain.image_encoder)
    assert same(other.image_projection, plain.image_projection) and same(other.text_projection, plain.text_projection)


def test_parts_are_drawn_from_different_numbers(plain):
    a = plain.image_encoder.conv1[0].weight.detach().flatten()
    b = plain.text_encoder.embeddings.word_embeddings.weight.detach()[1:].flatten()
    count = min(len(a), len(b))
    assert abs(float(torch.corrcoef(torch.stack([a[:count], b[:count]]))[0, 1])) < 0.2


def test_weights_are_kept_in_channels_last(plain):
    weight = plain.image_encoder.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    other = built(seed=7)
    other.load_state_dict({name: tensor.contiguous() for name, tensor in plain.state_dict().items()})
    assert same(other, plain)
    assert other.image_encoder.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("bias", [False, True])
def test_a_bias_by_choice(bias):
    model = built(projection_bias=bias)
    for projection in (model.image_projection, model.text_projection):
        assert (projection.bias is not None) is bias


def test_what_does_not_fit_is_told():
    with pytest.raises(
        ClipeduError, match="text_length=600 is more than the text encoder 'distilbert-nano' takes: at most 128"
    ):
        built(text_length=600)
    with pytest.raises(ClipeduError, match="image_size=32 does not fit the image encoder"):
        built(image_encoder="vit_tiny_patch16_224", image_options={"depth": 1, "img_size": 64})
    with pytest.raises(ClipeduError, match="unknown image encoder 'resnet51'"):
        built(image_encoder="resnet51")
    with pytest.raises(ClipeduError, match="'test_resnet' is an image encoder|unknown text encoder"):
        built(text_encoder="test_resnet", text_options={})
