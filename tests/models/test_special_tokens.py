"""The tokenizer's special tokens in a model's configuration."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from clipedu.models.special_tokens import OWN_TOKENS, set_special_tokens
from clipedu.models.text_encoders import build_text_encoder
from tests.helpers.errors import message_of

SMALL = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32}


def test_only_fields_that_are_there_are_set_nested_ones_too():
    inner = SimpleNamespace(pad_token_id=7, bos_token_id=8)
    config = SimpleNamespace(pad_token_id=1, mask_index=9, sub_configs={"text_config": object}, text_config=inner)
    set_special_tokens(config, {**OWN_TOKENS, "bos": None}, {})
    assert vars(config) == {
        "pad_token_id": 0, "mask_index": 4, "sub_configs": config.sub_configs, "text_config": inner
    }  # fmt: skip
    assert vars(inner) == {"pad_token_id": 0, "bos_token_id": 8}


@pytest.mark.parametrize("name", ["roberta", "mpnet", "modernbert", "bert"])
def test_only_the_padding_is_not_trained(name):
    for ids, pad in ((None, 0), ({"pad": 5, "unk": 0, "cls": 1, "sep": 2}, 5)):
        model = build_text_encoder(name, vocab_size=50, special_tokens=ids, **SMALL)
        words = model.get_input_embeddings()
        assert words.padding_idx == pad == model.config.pad_token_id
        assert [row for row in range(50) if not words.weight[row].any()] == [pad]


def test_a_configuration_with_its_own_vocabulary_keeps_its_ids(tmp_path):
    assert build_text_encoder("roberta", **SMALL).config.pad_token_id == 1
    build_text_encoder("roberta", **SMALL).config.save_pretrained(tmp_path)
    assert build_text_encoder(str(tmp_path), vocab_size=50).config.pad_token_id == 1
    assert build_text_encoder(str(tmp_path), vocab_size=50, special_tokens=OWN_TOKENS).config.pad_token_id == 0


def test_another_id_than_the_tokenizers_is_refused():
    message = message_of(build_text_encoder, "bert", vocab_size=50, pad_token_id=3, **SMALL)
    assert message.startswith("text_options pad_token_id=3 does not fit: the tokenizer's id is 0")
    assert build_text_encoder("bert", vocab_size=50, pad_token_id=0, **SMALL).config.pad_token_id == 0
