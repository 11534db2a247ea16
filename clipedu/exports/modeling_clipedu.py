"""A dual encoder of clipedu for transformers, on its own.

`clipedu export --to transformers` copies this file beside the weights. It needs torch, transformers and timm, and not clipedu:

    model = AutoModel.from_pretrained(folder, trust_remote_code=True)

Embeddings are tangent vectors of any length, before any normalisation, as clipedu has them; `similarity` compares them as the
model was trained. Weights have the names that they have in clipedu.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

LARGEST = 40.0  # radius times sqrt(curvature), beyond which float32 cannot compute a distance


class ClipeduConfig(PretrainedConfig):
    """Settings of a dual encoder.

    Args:
        image_architecture, image_args: of `timm.create_model`.
        image_mask: shape and dtype of an attention mask of the image encoder; None for none.
        image_size: height and width of the images, pixels.
        dropped: modules of the encoders that are left out, by name; the last norms of a model that was trained without them.
        text_config: of the text encoder, by its own names.
        text_pooling: "cls", "mean" or "last".
        text_padding_index: id of the padding token in the encoder's tables; None leaves what its class says.
        text_padding: (length, id of the padding token) to pad all texts to one length; None for an encoder that reads the mask.
        widths: of the features of images and texts.
        embedding_dim: width of the embeddings.
        projection_bias: of the projections of images and texts.
        geometry: how embeddings are compared.
        logit_bias: whether logits have a bias, as those of SigLIP.
    """

    model_type = "clipedu"

    def __init__(
        self,
        image_architecture: str = "resnet18",
        image_args: dict[str, Any] | None = None,
        image_mask: dict[str, Any] | None = None,
        image_size: int = 224,
        dropped: list[str] | None = None,
        text_config: Any = None,
        text_pooling: str = "mean",
        text_padding_index: int | None = None,
        text_padding: list[int] | None = None,
        widths: list[int] | None = None,
        embedding_dim: int = 128,
        projection_bias: list[bool] | None = None,
        geometry: str = "cosine",
        logit_bias: bool = False,
        **kwargs: Any,
    ):
        self.image_architecture, self.image_args, self.image_mask = image_architecture, image_args or {}, image_mask
        self.image_size, self.text_pooling, self.text_padding = image_size, text_pooling, text_padding
        text = {"model_type": "distilbert"} if text_config is None else text_config
        self.text_config = AutoConfig.for_model(**text) if isinstance(text, dict) else text
        self.text_padding_index, self.dropped = text_padding_index, dropped or []
        self.widths = widths or [512, 768]
        self.embedding_dim, self.projection_bias = embedding_dim, projection_bias or [False, False]
        self.geometry, self.logit_bias = geometry, logit_bias
        super().__init__(**kwargs)


@dataclass
class ClipeduOutput(ModelOutput):
    """What the model returns for pairs.

    Attributes:
        logits_per_image: [images, texts]: similarities times exp(logit_scale), plus the bias.
        logits_per_text: the same, transposed.
        image_embeds, text_embeds: [B, D]; of length 1 in the cosine geometry, as CLIP's, and else tangent vectors.
    """

    logits_per_image: Tensor | None = None
    logits_per_text: Tensor | None = None
    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None


class Geometry(nn.Module):
    """How embeddings are compared.

    Args:
        name: as clipedu has it.
    """

    log_curvature: Tensor

    def __init__(self, name: str):
        super().__init__()
        self.name = name
        self.flat, self.curved = name.startswith("euclidean"), name.startswith("lorentz")
        for side in ("image", "text") if self.flat or self.curved else ():
            self.register_buffer(f"log_alpha_{side}", torch.zeros(()))
        if self.curved:
            self.register_buffer("log_curvature", torch.zeros(()))

    def tangent(self, features: Tensor, side: str) -> Tensor:
        """Multiply features [B, D] by the dimension scaling of a side."""
        if not (self.flat or self.curved):
            return features
        return getattr(self, f"log_alpha_{side}").clamp(max=0).exp() * features.float()

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Compare all rows of x [A, D] with all of y [B, D] -> [A, B]."""
        x, y = x.float(), y.float()
        if self.name == "cosine":
            return normalize(x, dim=-1) @ normalize(y, dim=-1).T
        if self.name == "euclidean-inner":
            return x @ y.T
        if self.name == "elliptic":
            x, y = normalize(x, dim=-1), normalize(y, dim=-1)
            return -2 * torch.atan2(self._chords(x, y), self._chords(x, -y))
        if self.name in ("euclidean", "euclidean-squared"):
            distance = self._chords(x, y)
            return -distance if self.name == "euclidean" else -distance.square()
        c = self.log_curvature.clamp(math.log(0.1), math.log(10)).exp()
        a, b = ((c.sqrt() * v.norm(dim=-1)).clamp(max=LARGEST) for v in (x, y))
        chords = self._chords(normalize(x, dim=-1), normalize(y, dim=-1))
        opening = ((a[:, None] - b) / 2).sinh().square() + a.sinh()[:, None] * b.sinh() * chords.square() / 4
        if self.name == "lorentz-inner":
            return -(1 + 2 * opening) / c
        distance = 2 * opening.sqrt().asinh() / c.sqrt()
        return -distance if self.name == "lorentz" else -distance.square()

    @staticmethod
    def _chords(x: Tensor, y: Tensor) -> Tensor:
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


class ClipeduModel(PreTrainedModel):
    """Two encoders, each with a projection.

    Attributes:
        logit_scale, logit_bias: a pair's logit is exp(logit_scale) * similarity + logit_bias.
    """

    config_class = ClipeduConfig
    base_model_prefix = "clipedu"
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: ClipeduConfig):
        super().__init__(config)
        self.image_encoder = timm.create_model(config.image_architecture, pretrained=False, **config.image_args)
        self.text_encoder = AutoModel.from_config(config.text_config)
        for module in self.text_encoder.modules():
            if config.text_padding_index is not None and isinstance(getattr(module, "padding_idx", None), int):
                module.padding_idx = config.text_padding_index
        for name in config.dropped:
            parent, _, child = name.rpartition(".")
            setattr(self.get_submodule(parent), child, nn.Identity())
        widths, biases = config.widths, config.projection_bias
        self.image_projection = nn.Linear(widths[0], config.embedding_dim, bias=biases[0])
        self.text_projection = nn.Linear(widths[1], config.embedding_dim, bias=biases[1])
        self.geometry = Geometry(config.geometry)
        if config.image_mask is not None:
            dtype = getattr(torch, config.image_mask["dtype"])
            self.register_buffer("image_mask", torch.zeros(config.image_mask["shape"], dtype=dtype))
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.logit_bias = nn.Parameter(torch.zeros(())) if config.logit_bias else None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        fill: Any = getattr(module, "init_non_persistent_buffers", None)  # of timm: no file holds them
        if fill is not None:
            fill()

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> Tensor:
        """Embed images [B, 3, H, W], normalised -> tangent vectors [B, D]."""
        encoder: Any = self.image_encoder
        if self.config.image_mask is None:
            features = encoder(pixel_values)
        else:
            features = encoder.forward_head(encoder.forward_features(pixel_values, attn_mask=self.image_mask))
        return self.geometry.tangent(self.image_projection(features), "image")

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Embed texts, token ids [B, L] and mask [B, L] -> tangent vectors [B, D].

        Padding is behind a text.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        if self.config.text_padding is not None:
            length, fill = self.config.text_padding
            more = (0, max(0, length - input_ids.shape[1]))
            mask = pad(mask, more)
            input_ids = pad(input_ids, more).masked_fill(mask == 0, fill)
        hidden = self.text_encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        if self.config.text_pooling == "cls":
            pooled = hidden[:, 0]
        elif self.config.text_pooling == "last":
            last = (mask.sum(1) - 1)[:, None, None].expand(-1, 1, hidden.shape[-1])
            pooled = hidden.gather(1, last)[:, 0]
        else:
            weight = mask.to(hidden.dtype)[..., None]
            pooled = (hidden * weight).sum(1) / weight.sum(1)
        return self.geometry.tangent(self.text_projection(pooled), "text")

    def similarity(self, image: Tensor, text: Tensor) -> Tensor:
        """Compare embeddings: images [A, D], texts [B, D] -> [A, B]."""
        return self.geometry.similarity(image, text)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> ClipeduOutput | tuple[Any, ...]:
        """Embed images, texts or both, and compare all with all."""
        image = None if pixel_values is None else self.get_image_features(pixel_values)
        text = None if input_ids is None else self.get_text_features(input_ids, attention_mask)
        logits = None
        if image is not None and text is not None:
            logits = self.logit_scale.exp() * self.similarity(image, text)
            logits = logits if self.logit_bias is None else logits + self.logit_bias
        if self.config.geometry == "cosine":
            image, text = (None if x is None else normalize(x, dim=-1) for x in (image, text))
        output = ClipeduOutput(logits, None if logits is None else logits.T, image, text)
        return output.to_tuple() if return_dict is False else output
