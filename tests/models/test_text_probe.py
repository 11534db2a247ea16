"""What text encoders of all kinds do with padding, order and length: each is right, or refused in one line."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from clipedu.config.experiment import Experiment
from clipedu.models import build_model
from clipedu.models.special_tokens import OWN_TOKENS
from clipedu.models.text_encoders import build_text_encoder, text_config
from clipedu.models.text_probe import probe
from tests.helpers.errors import message_of

VOCAB, LENGTH = 60, 24
SMALL = dict.fromkeys(
    ["hidden_size", "d_model", "n_embd", "dim", "embedding_size", "embed_dim", "emb_dim", "word_embed_proj_dim",
     "attention_hidden_size", "true_hidden_size"], 32
) | dict.fromkeys(["intermediate_size", "ffn_dim", "n_inner", "hidden_dim", "d_inner"], 64) | dict.fromkeys(
    ["num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_heads", "n_head", "n_heads", "num_attention_heads",
     "num_key_value_heads"], 2
) | dict.fromkeys(["d_head", "head_dim", "attention_head_size", "intra_bottleneck_size"], 16) | {"rotary_dim": 8}  # fmt: skip
OWN_OPTIONS = {  # what a type needs besides, to be small
    "funnel": {"block_sizes": [1, 1], "block_repeats": [1, 1], "num_decoder_layers": 1},
    "mobilebert": {"hidden_size": 32, "embedding_size": 16, "true_hidden_size": 16},
    "gpt_neo": {"attention_types": [[["global"], 2]]},
    "deberta-v2": {"relative_attention": True, "position_biased_input": False, "pos_att_type": ["p2c", "c2p"]},
    "longformer": {"attention_window": [16, 16]},
    "mamba2": {"num_heads": 4, "head_dim": 16, "expand": 2, "n_groups": 1},
    "xmod": {"default_language": "en_XX"},
    "nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 8},
}
BOTH_WAYS = [
    "bert", "distilbert", "roberta", "xlm-roberta", "camembert", "mpnet", "modernbert", "electra", "albert", "deberta",
    "deberta-v2", "big_bird", "longformer", "ernie", "roformer", "squeezebert", "mobilebert", "layoutlm", "data2vec-text",
    "roberta-prelayernorm", "xmod", "xlnet", "eurobert", "nomic_bert", "esm", "rembert", "xlm", "ibert", "yoso",
]  # fmt: skip
LEFT_TO_RIGHT = [
    "gpt2", "gpt_neo", "gptj", "gpt_neox", "opt", "bloom", "llama", "mistral", "qwen2", "qwen3", "gemma", "mamba",
    "mamba2", "rwkv", "clip_text_model", "falcon",
]  # fmt: skip
NO_MASK = ["fnet", "convbert", "nystromformer", "funnel"]


def experiment(name: str, **changes) -> Experiment:
    if name not in CONFIG_MAPPING_NAMES:
        pytest.skip(f"this version of transformers has no {name}")
    config = text_config(name).to_dict()
    options = {key: value for key, value in SMALL.items() if isinstance(config.get(key), int)} | OWN_OPTIONS.get(
        name, {}
    )
    return Experiment(**{
        "text_encoder": name, "text_options": options, "text_length": LENGTH, "embedding_dim": 8, **changes
    })  # fmt: skip


def captions(length: int, start: int = 5) -> torch.Tensor:
    return torch.tensor([[2, *((start + place) % 50 + 5 for place in range(length - 2)), 3]])


def padded(ids: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    more = (0, length - ids.shape[1])
    return torch.nn.functional.pad(ids, more), torch.nn.functional.pad(torch.ones_like(ids), more).bool()


@pytest.mark.parametrize("name", BOTH_WAYS + LEFT_TO_RIGHT + NO_MASK)
def test_a_type_from_scratch(name):
    model = build_model(experiment(name), VOCAB).eval()
    config = model.text_encoder.config
    assert model.text_pooling == ("last" if name in LEFT_TO_RIGHT else "mean")
    for token, index in OWN_TOKENS.items():
        assert getattr(config, f"{token}_token_id", index) == index

    # the vector of [UNK] is trained, that of [PAD] alone is not
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
            assert module.padding_idx == 0 and not module.weight[0].any() and module.weight[1].any()
    unknown = torch.tensor([[2, 1, 7, 3]])
    model.encode_text(*padded(unknown, 6)).square().sum().backward()
    gradient = model.text_encoder.get_input_embeddings().weight.grad
    if gradient is not None:  # ibert rounds its vectors
        assert gradient[1].any()

    # neither padding nor the other texts of a batch move a vector
    with torch.no_grad():
        alone = model.encode_text(*padded(captions(6), 6))
        for length in (7, 11, LENGTH):
            more, mask = padded(captions(6), length)
            torch.testing.assert_close(
                model.encode_text(more, mask), alone, rtol=1e-4, atol=1e-4 * alone.abs().max().item()
            )
            both = torch.cat([more, captions(length)]), torch.cat([mask, torch.ones(1, length, dtype=torch.bool)])
            torch.testing.assert_close(
                model.encode_text(*both)[:1], alone, rtol=1e-4, atol=1e-4 * alone.abs().max().item()
            )
        other = model.encode_text(*padded(captions(6, start=6), 6))
        assert (other - alone).abs().max() > 1e-4 * alone.abs().max()


@pytest.mark.parametrize("name", NO_MASK)
def test_a_model_whose_vectors_move_with_padding_is_padded_to_one_length_and_told(name, caplog):
    with caplog.at_level(logging.WARNING, "clipedu"):
        model = build_model(experiment(name), VOCAB)
    assert (
        model.text_padding == (LENGTH, 0)
        and f"text encoder {name!r}: padding moves its vectors by up to" in caplog.text
    )
    assert caplog.text.count("\n") == 1
    assert build_model(experiment("distilbert"), VOCAB).text_padding is None


def test_a_run_keeps_how_its_texts_were_padded(tmp_path, caplog):
    ex = experiment("fnet")
    model = build_model(ex, VOCAB)
    model.text_encoder.config.save_pretrained(tmp_path)
    caplog.clear()
    again = build_model(ex, VOCAB, saved_text=tmp_path)
    assert again.text_padding == (LENGTH, 0) and again.text_encoder.made_as != model.text_encoder.made_as
    for wrong in ("x", 100, True, -1, [LENGTH]):
        model.text_encoder.config.clipedu_padded_to = wrong
        model.text_encoder.config.save_pretrained(tmp_path)
        message = message_of(build_model, ex, VOCAB, saved_text=tmp_path)
        assert f"clipedu_padded_to={wrong!r}: it must be text_length, {LENGTH}" in message
    build_text_encoder("fnet", vocab_size=VOCAB, **ex.text_options).config.save_pretrained(tmp_path)
    assert build_model(ex, VOCAB, saved_text=tmp_path).text_padding is None  # a run of an older version
    assert caplog.text == ""


def test_a_run_of_an_older_version_keeps_its_special_tokens(tmp_path):
    """RoBERTa's positions follow the padding index: with another one the run's numbers would change."""
    ex = experiment("roberta", text_pooling="mean")
    config = text_config("roberta", **ex.text_options)
    config.vocab_size = VOCAB
    config.save_pretrained(tmp_path)
    model = build_model(ex, VOCAB, saved_text=tmp_path)
    assert model.text_encoder.config.pad_token_id == model.text_encoder.get_input_embeddings().padding_idx == 1
    config = text_config("gpt2", **experiment("gpt2").text_options)
    config.vocab_size = VOCAB
    config.save_pretrained(tmp_path)
    assert build_model(experiment("gpt2", text_pooling="cls"), VOCAB, saved_text=tmp_path).text_pooling == "cls"


@pytest.mark.parametrize("name", ["gpt2", "llama", "mamba", "clip_text_model"])
def test_the_first_token_of_a_model_that_reads_from_left_to_right_is_refused(name):
    message = message_of(build_model, experiment(name, text_pooling="cls"), VOCAB)
    assert message.startswith("text_pooling='cls' gives all captions one vector") and "text_pooling='last'" in message
    assert build_model(experiment(name, text_pooling="mean"), VOCAB).text_pooling == "mean"
    assert build_model(experiment("bert", text_pooling="cls"), VOCAB).text_pooling == "cls"


@pytest.mark.parametrize(
    ("name", "positions", "limit"),
    [("bert", 16, 16), ("distilbert", 16, 16), ("roberta", 16, 15), ("mpnet", 16, 15), ("data2vec-text", 16, 15),
     ("opt", 16, 16), ("gpt2", 16, 16), ("llama", 16, 16), ("clip_text_model", 16, 16), ("longformer", 18, 17)],
)  # fmt: skip
def test_the_longest_text_is_measured(name, positions, limit):
    changes = experiment(name).text_options | {"max_position_embeddings": positions}
    model = build_model(experiment(name, text_length=limit, text_options=changes), VOCAB).eval()
    assert model.encode_text(*padded(captions(limit), limit)).isfinite().all()
    for length in (limit + 1, positions + 9, 200):
        message = message_of(build_model, experiment(name, text_length=length, text_options=changes), VOCAB)
        assert message == f"text_length={length} is more than the text encoder {name!r} takes: at most {limit} tokens"


def test_a_model_without_a_limit():
    assert build_model(experiment("xlnet", text_length=300), VOCAB).text_pooling == "mean"


@pytest.mark.parametrize("name", ["hubert", "bros", "blip_2_qformer", "dpr"])
def test_a_model_that_reads_no_captions(name):
    """Their configurations have a vocabulary, too."""
    message = message_of(build_model, experiment(name), VOCAB)
    assert message.startswith(f"text encoder {name!r}") and message.endswith("e.g. bert, distilbert or modernbert")


def test_a_probe_changes_nothing():
    model = build_text_encoder("distilbert-nano", vocab_size=VOCAB, dropout=0.5)
    model.transformer.layer[0].eval()
    modes, weights = [m.training for m in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    probe(model, "distilbert-nano", LENGTH, OWN_TOKENS)
    drawn = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    assert drawn == (torch.rand(1).item(), np.random.rand(), random.random())
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("length", [3, 4, 5, 6, 7])
def test_short_lengths_and_small_vocabularies(length):
    for name in ("distilbert-nano", "gpt2"):
        changes = {} if name == "gpt2" else {"text_options": {}}
        assert build_model(experiment(name, text_length=length, **changes), 6)
