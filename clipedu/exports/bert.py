"""DistilBERT as the BERT that it is: the same layers under other names.

open_clip takes text models of a few kinds, BERT among them and DistilBERT not. A DistilBERT is a BERT whose tokens are all of one
type, with a vector of zeros for it, and without the pooler.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

_LAYER = {
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}


def bert_config(config: Any) -> Any:
    """Return the configuration of the BERT that equals a DistilBERT.

    Args:
        config: of the DistilBERT.
    """
    from transformers import BertConfig

    return BertConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.dim,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        intermediate_size=config.hidden_dim,
        hidden_act=config.activation,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.attention_dropout,
        max_position_embeddings=config.max_position_embeddings,
        type_vocab_size=1,
        initializer_range=config.initializer_range,
        layer_norm_eps=1e-12,
        pad_token_id=config.pad_token_id,
    )


def bert_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a DistilBERT under the names of BERT.

    Args:
        state: of the DistilBERT.
    """
    named = {_bert_name(name): value for name, value in state.items()}
    width = named["embeddings.word_embeddings.weight"].shape[1]
    named["embeddings.token_type_embeddings.weight"] = torch.zeros(1, width)
    return named


def _bert_name(name: str) -> str:
    found = re.fullmatch(r"transformer\.layer\.(\d+)\.(.+)\.(weight|bias)", name)
    return name if found is None else f"encoder.layer.{found[1]}.{_LAYER[found[2]]}.{found[3]}"
