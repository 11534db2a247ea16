"""Text encoders by name, and the messages where a name, an option or a size does not fit."""

from __future__ import annotations

import pytest
import torch

from clipedu.models.registry import ENCODERS
from clipedu.models.text_encoders import build_text_encoder, hub_id, pool_text, text_config
from tests.helpers.errors import message_of

SMALL = {"vocab_size": 50, "dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32}


@pytest.mark.parametrize("name", ["distilbert-nano", "distilbert-tiny", "distilbert-small"])
def test_our_own_text_encoders(name):
    model = build_text_encoder(name, vocab_size=60)
    settings = ENCODERS[name].defaults
    assert model.config.hidden_size == settings["dim"] and model.config.num_hidden_layers == settings["n_layers"]
    hidden = model.eval()(input_ids=torch.tensor([[2, 59, 3]]), attention_mask=torch.ones(1, 3)).last_hidden_state
    assert hidden.shape == (1, 3, settings["dim"]) and hidden.isfinite().all()


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_a_model_type_needs_no_network(name):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    model = build_text_encoder(name, vocab_size=50, **sizes)
    assert model.config.vocab_size == 50 and model.get_input_embeddings().weight.shape == (50, 16)
    assert next(model.parameters()).dtype == torch.float32


def test_the_courses_text_encoder_needs_no_network_for_its_shape():
    config = text_config("distilbert-base-uncased")
    assert (config.vocab_size, config.dim, config.n_layers, config.n_heads) == (30522, 768, 6, 12)
    assert hub_id("distilbert-base-uncased") == "distilbert-base-uncased" and hub_id("some/model") == "some/model"


def test_an_entry_made_for_scratch_has_no_pretrained_weights():
    message = message_of(build_text_encoder, "distilbert-nano", "pretrained")
    assert "'distilbert-nano' has no pretrained weights: use text_weights='random'" in message


def test_options_reach_the_configuration():
    model = build_text_encoder("distilbert-nano", dropout=0.375, **SMALL)
    assert model.config.dropout == 0.375 and model.config.n_layers == 1
    assert text_config("distilbert-nano").n_layers == 2  # and stay with the one model
    assert build_text_encoder("distilbert-nano", vocab_size=50, hidden_size=32).config.dim == 32  # its other name


@pytest.mark.parametrize("key", ["n_layer", "to_dict", "__class__"])
def test_an_option_the_configuration_has_not(key):
    message = message_of(build_text_encoder, "distilbert-nano", **{key: 3})
    assert message.startswith(f"unknown text_options of 'distilbert-nano': {key!r}.") and "n_layers" in message


@pytest.mark.parametrize(
    "wrong", [{"dim": 15}, {"dim": "wide"}, {"dim": -16}, {"activation": "no such"}, {"n_layers": None}]
)
def test_values_that_do_not_fit(wrong):
    message = message_of(build_text_encoder, "distilbert-nano", **{**SMALL, **wrong})
    assert message.startswith("text encoder 'distilbert-nano'") and "text_options" in message
    assert next(iter(wrong)) in message


@pytest.mark.parametrize("name", ["resnet50", "vit_small_patch16_224", "mobilenetv3_small_100"])
def test_an_image_encoders_name_for_texts(name):
    assert message_of(build_text_encoder, name).startswith(
        f"'{name}' is an image encoder. Text encoders: distilbert-nano"
    )


@pytest.mark.parametrize("name", ["vit", "clip", "t5"])
def test_transformers_models_that_are_no_text_encoders(name):
    assert message_of(build_text_encoder, name).startswith(f"'{name}' is no text encoder")


def test_an_unknown_text_encoder():
    message = message_of(build_text_encoder, "distlbert")
    assert message.startswith("unknown text encoder 'distlbert'. Did you mean 'distilbert'?")
    assert "distilbert-nano" in message and message.endswith("a transformers model type, or a hub id")


def test_a_misspelt_hub_id_says_what_may_be_meant():
    message = message_of(build_text_encoder, "distilbert-nanoo")
    assert "text encoder 'distilbert-nanoo' (did you mean 'distilbert-nano'?): not on this machine" in message


def test_pooling_by_hand():
    hidden = torch.arange(24.0).view(2, 3, 4)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert torch.equal(pool_text(hidden, mask, "cls"), hidden[:, 0])
    expected = torch.stack([(hidden[0, 0] + hidden[0, 1]) / 2, hidden[1].sum(0) / 3])
    torch.testing.assert_close(pool_text(hidden, mask, "mean"), expected)
    assert torch.equal(pool_text(hidden, mask, "last"), torch.stack([hidden[0, 1], hidden[1, 2]]))


@pytest.mark.parametrize("how", ["cls", "mean", "last"])
def test_a_graph_of_pooling_takes_any_batch(how):
    class Pooling(torch.nn.Module):
        def forward(self, hidden, mask):
            return pool_text(hidden, mask, how)

    hidden, mask = torch.randn(7, 3, 4), torch.ones(7, 3, dtype=torch.bool)
    batch = {0: torch.export.Dim("batch")}
    graph = torch.export.export(Pooling(), (hidden[:2], mask[:2]), dynamic_shapes=(batch, batch))
    assert torch.equal(graph.module()(hidden, mask), pool_text(hidden, mask, how))


@pytest.mark.parametrize(
    ("name", "option", "least"),
    [
        ("distilbert-nano", {"n_layers": -1}, "n_layers=-1 must be at least 0"),
        ("distilbert-nano", {"n_heads": 0}, "n_heads=0 must be at least 1"),
        ("distilbert-nano", {"dim": -64}, "dim=-64 must be at least 1"),
        ("bert", {"num_hidden_layers": -3}, "num_hidden_layers=-3 must be at least 0"),
        ("gpt2", {"n_head": -2}, "n_head=-2 must be at least 1"),
    ],
)
def test_sizes_below_the_least_are_named(name, option, least):
    assert message_of(text_config, name, **option) == f"text encoder {name!r}: text_options {least}"
    assert text_config(name, **dict.fromkeys(option, 4)) is not None
