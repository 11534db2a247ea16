"""Text encoders by name: transformers models and our own.

    hub id        distilbert-base-uncased, some-owner/some-model: the configuration is fetched
    model type    distilbert, bert, roberta: its default configuration, which needs no network
    folder        saved by transformers, as in a run's folder
    `ENCODERS`    one of these with settings that fit the embedded scenes

Weights are "random", "pretrained" (transformers fetches them from the hub) or the path of a .safetensors file.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clipedu.models.registry import ENCODERS, encoder_names
from clipedu.models.special_tokens import OWN_TOKENS, set_padding_index, set_special_tokens
from clipedu.models.weights import from_hub, load_weights, one_line_errors
from clipedu.utils.errors import ClipeduError, unknown_name
from clipedu.utils.importing import importing

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LEAST = {"num_hidden_layers": 0, "hidden_size": 1, "num_attention_heads": 1}  # of a configuration


@importing()
def build_text_encoder(
    name: str,
    weights: str = "random",
    *,
    vocab_size: int | None = None,
    special_tokens: Mapping[str, int | None] | None = None,
    **config: Any,
) -> nn.Module:
    """Build a transformers text model, in float32.

    Token ids [B, L] and mask -> hidden states [B, L, H] (`.last_hidden_state`).

    A model that is not pretrained gets the tokenizer's ids of special tokens; only the vector of its padding token is zero and
    never trained.

    Args:
        name: a text entry of `ENCODERS`, a transformers model type, a hub id, or a folder that transformers has saved.
        weights: "random", "pretrained" or the path of a .safetensors file with the model's state dict.
        vocab_size: of the tokenizer in use; None keeps the configuration's.
        special_tokens: ids of the tokenizer's special tokens (`Tokenizer.special_tokens`). None takes those of our own
            tokenizers for a model type with a `vocab_size`, and else keeps the configuration's.
        config: changes to the model's configuration.
    Raises:
        ClipeduError: unknown name or option, weights that are missing or do not fit.
    """
    from transformers import AutoModel

    configuration = text_config(name, pretrained=weights == "pretrained", **config)
    with one_line_errors(f"text encoder {name!r}", "text_options", config):
        if weights == "pretrained":
            with from_hub(f"pretrained weights of text encoder {name!r}", "text_weights") as local:
                model = AutoModel.from_pretrained(
                    hub_id(name), config=configuration, dtype=torch.float32, local_files_only=local
                )
            if vocab_size not in (None, model.config.vocab_size):  # hubs pad embeddings beyond the tokenizer's last id
                model.resize_token_embeddings(vocab_size, mean_resizing=False)
        else:
            configuration.vocab_size = vocab_size or configuration.vocab_size
            if special_tokens is None and vocab_size is not None and not configuration.name_or_path:
                special_tokens = OWN_TOKENS
            set_special_tokens(configuration, special_tokens or {}, config)
            if hasattr(configuration, "use_cache") and "use_cache" not in config:
                configuration.use_cache = False  # of keys and values, for texts that are written token by token
            configuration.architectures = configuration.architectures or []  # Funnel has two: the first is taken
            model = AutoModel.from_config(configuration, dtype=torch.float32)
            set_padding_index(model)
    load_weights(model, weights, name)
    model.made_as = f"transformers {model.config.to_json_string()}"
    return model


@importing()
def text_config(name: str, *, pretrained: bool = False, **changes: Any) -> PretrainedConfig:
    """Return the transformers configuration of a text encoder.

    The hub is needed only for hub ids and pretrained weights.

    Args:
        name: as of `build_text_encoder`.
        pretrained: take the configuration of the pretrained weights.
        changes: to the configuration, by its own names.
    Raises:
        ClipeduError: no such model type or hub id, no text encoder, or an option the configuration does not take.
    """
    import timm
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    entries = ", ".join(encoder_names("transformers"))
    settings = dict(ENCODERS[name].defaults) if name in ENCODERS else {"transformers": name}
    if "transformers" not in settings or (name not in ENCODERS and timm.is_model(name)):
        raise ClipeduError(
            f"{name!r} is an image encoder. Text encoders: {entries}, a transformers model type, or a hub id"
        )
    model = settings.pop("transformers")
    settings.pop("hub", None)
    near = difflib.get_close_matches(name, [*encoder_names("transformers"), *CONFIG_MAPPING_NAMES], n=5)
    if pretrained:
        with from_hub(f"pretrained weights of text encoder {name!r}", "text_weights") as local:
            configuration = AutoConfig.from_pretrained(hub_id(name), local_files_only=local)
    elif model in CONFIG_MAPPING_NAMES:
        configuration = AutoConfig.for_model(model)
    elif Path(model).is_dir():  # saved by transformers, as in a run's folder: no need of a hub
        with one_line_errors(f"text encoder {name!r}", "text_options", changes):
            configuration = AutoConfig.from_pretrained(model)
    elif "/" in model or model.startswith(tuple(CONFIG_MAPPING_NAMES)):  # bert-base-uncased: a hub id without an owner
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        with from_hub(f"text encoder {name!r}{hint}", "text_encoder") as local:
            configuration = AutoConfig.from_pretrained(model, local_files_only=local)
    else:
        known = dict.fromkeys(encoder_names("transformers") + near)
        raise ClipeduError(f"{unknown_name('text encoder', name, known)}, a transformers model type, or a hub id")
    if not hasattr(configuration, "vocab_size") or configuration.is_encoder_decoder:
        raise ClipeduError(
            f"{name!r} is no text encoder (one stack of layers over token ids). Allowed: {entries}, bert, ..."
        )
    known = {**configuration.to_dict(), **configuration.attribute_map}
    for key, value in {**settings, **changes}.items():
        if key not in known:
            raise unknown_name(f"text_options of {name!r}:", key, sorted(key for key in known if key[0] != "_"))
        with one_line_errors(f"text encoder {name!r}", "text_options", {key: value}):
            setattr(configuration, key, value)
    for key, least in LEAST.items():
        value = getattr(configuration, key, None)
        if isinstance(value, int) and value < least:  # Python repeats a layer -1 times without a word: not at all
            own = configuration.attribute_map.get(key, key)
            raise ClipeduError(f"text encoder {name!r}: text_options {own}={value} must be at least {least}")
    return configuration


def hub_id(name: str) -> str:
    """Return the hub id of a text encoder's weights and tokenizer.

    Raises:
        ClipeduError: an entry made for training from scratch has none.
    """
    settings = ENCODERS[name].defaults if name in ENCODERS else {"hub": name}
    if "hub" not in settings:
        raise ClipeduError(
            f"text encoder {name!r} has no pretrained weights: use text_weights='random', or another encoder"
        )
    return settings["hub"]


def pool_text(hidden: Tensor, mask: Tensor, how: str) -> Tensor:
    """Pool hidden states to one vector a text, [B, H].

    Args:
        hidden: states of the last layer, [B, L, H].
        mask: True where there is a token, [B, L].
        how: "cls" takes the first token, "last" the last one, "mean" averages over all.
    """
    if how == "cls":
        return hidden[:, 0]
    if how == "last":
        last = (mask.sum(1) - 1)[:, None, None].expand(-1, 1, hidden.shape[-1])
        return hidden.gather(1, last)[:, 0]  # not indexed by row: a graph of ONNX would be for one size of batch
    weight = mask.to(hidden.dtype)[..., None]
    return (hidden * weight).sum(1) / weight.sum(1)
