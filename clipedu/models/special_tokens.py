"""Give a text model the ids of the tokenizer's special tokens.

A configuration holds the ids of the tokenizer its model was published with: padding is 1 for RoBERTa, 50283 for ModernBERT. A
model from scratch reads another tokenizer, so it gets that one's ids before it is built. The vector of the padding token is zero
and is never trained; with the wrong id that would be the vector of a word, or a row outside the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from clipedu.utils.errors import ClipeduError

OWN_TOKENS = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4, "bos": 2, "eos": 3}
"""Ids of a tokenizer that `clipedu.data.tokenizer.train_tokenizer` made."""


def set_special_tokens(config: Any, ids: Mapping[str, int | None], given: Mapping[str, Any]) -> None:
    """Write the ids of special tokens into a configuration, in place.

    Only fields that it has are set (`pad_token_id`, or `pad_index` as XLM calls it), those of nested configurations too.

    Args:
        config: of a transformers model.
        ids: of the tokenizer, by "pad", "unk", "cls", "sep", "mask", "bos" and "eos"; None for a token that it has not.
        given: the user's own changes to the configuration.
    Raises:
        ClipeduError: the user's changes name another id than the tokenizer's.
    """
    for token, index in ids.items():
        for field in (f"{token}_token_id", f"{token}_index"):
            if index is None or not hasattr(config, field):
                continue
            if given.get(field, index) != index:
                raise ClipeduError(
                    f"text_options {field}={given[field]!r} does not fit: the tokenizer's id is {index}. Leave {field} out, "
                    "it is set for you"
                )
            setattr(config, field, index)
    for name in getattr(config, "sub_configs", {}):
        if (nested := getattr(config, name, None)) is not None:
            set_special_tokens(nested, ids, {})


def set_padding_index(model: Any) -> None:
    """Make the configuration's padding token that of all embedding tables.

    Some models have an index of their own in the code, whatever the configuration says (MPNet: 1). The row that was their
    padding, a zero, is drawn as the others were.

    Args:
        model: a transformers model, just built with random weights; changed in place.
    """
    pad = getattr(model.config, "pad_token_id", getattr(model.config, "pad_index", None))
    if not isinstance(pad, int):
        return
    for module in model.modules():
        was = getattr(module, "padding_idx", None)
        if not isinstance(was, int):
            continue
        module.padding_idx = pad
        if isinstance(module, nn.Embedding):
            with torch.no_grad():
                if was != pad:
                    module.weight[was].normal_(0, module.weight.std().item())
                module.weight[pad] = 0
