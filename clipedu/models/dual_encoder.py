"""The dual encoder: two encoders, each with a projection.

    pixels uint8 [B, 3, H, W] -> image features [B, F] -> image embedding [B, D]
    token ids    [B, L], mask -> text features  [B, G] -> text embedding  [B, D]

The embeddings are vectors of any length: tangent vectors at the geometry's root, already multiplied by its dimension scaling
(1 in the cosine geometry). The geometry (or the loss) normalises or maps them; so one model can be compared in any geometry,
and VICReg gets the raw projections that it needs.

A frozen encoder stays in evaluation mode and gets no gradient; its features can be computed once (`inference/features.py`).

A released model (`clipedu.adopt`) is one too: its encoders may pool by themselves, its projections may have no bias or be missing
(`nn.Identity`), and it says which images it reads and which logits it was trained with.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.geometry import Geometry
from clipedu.models.image_encoders import PixelStats
from clipedu.models.remembered import found_once
from clipedu.models.text_encoders import pool_text
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import finite_rows

log = logging.getLogger("clipedu")


@dataclass(frozen=True)
class Tower:
    """One encoder of a `DualEncoder`.

    Attributes:
        encoder: for images a module, pixels [B, 3, H, W] (normalised) -> features [B, width]; for texts a transformers model,
            `(input_ids, attention_mask)` -> `.last_hidden_state` [B, L, width], or a module that pools by itself: see
            `text_pooling` of `DualEncoder`.
        width: of its features.
        frozen: it is not trained.
        projection: features [B, width] -> embeddings [B, D]; None makes a linear layer.
    """

    encoder: nn.Module
    width: int
    frozen: bool = False
    projection: nn.Module | None = None


class DualEncoder(nn.Module):
    """Two encoders, each with a projection.

    Args:
        image, text: the two towers.
        embedding_dim: D, width of the embeddings.
        pixel_stats: mean and standard deviation of the pixels in 0..1, a number a channel.
        geometry: how its embeddings are compared; it may learn.
        text_pooling: "cls", "mean" or "last"; "own" for a text encoder that pools by itself: `(input_ids, attention_mask)` ->
            features [B, width].
        text_padding: (length, id of the padding token) to pad all texts to one length, for an encoder whose states depend on
            the padding; None pads them to the longest of a batch.
        projection_bias: of the projections that are made here (`linear_projection`).

    Attributes:
        frozen: which of "image" and "text" are not trained.
        widths: of the features of "image" and "text".
        tokenizer: a `clipedu.data.tokenizer.Tokenizer` or what encodes as it does, so that the model can read captions; None
            until set.
        remembered: what `found_once` has found, for models that share frozen encoders; None keeps nothing.
        image_size: height and width of the images, the only ones that it takes; None of a model that does not say it.
        resize: how its images are made square, "crop" or "squash" (`load_pairs`).
        logit_scale, logit_bias: of a released model: a pair's logit is exp(logit_scale) * cosine + logit_bias. None of a model
            of a run, whose loss has them; the bias is 0.0 where the released model has none.
        released_loss: the loss that a released model was trained with, "clip" or "siglip"; None of a model of a run.
        parts: {beginning of a parameter's name: part} for `NormMonitor`; None leaves it to the names.
        locked: names of modules that are not trained, besides the frozen encoders (`clipedu.models.locking`).
    """

    remembered: dict[Any, Any] | None = None
    image_size: int | None = None
    resize: str = "crop"
    logit_scale: float | None = None
    logit_bias: float | None = None
    released_loss: str | None = None
    parts: Mapping[str, str] | None = None
    locked: tuple[str, ...] = ()
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        image: Tower,
        text: Tower,
        *,
        embedding_dim: int,
        pixel_stats: PixelStats,
        geometry: Geometry,
        text_pooling: str = "cls",
        text_padding: tuple[int, int] | None = None,
        projection_bias: bool = False,
    ):
        super().__init__()
        self.tokenizer: Any = None
        self.geometry = geometry
        self.image_encoder, self.text_encoder = image.encoder, text.encoder
        self.image_projection, self.text_projection = (
            linear_projection(tower.width, embedding_dim, bias=projection_bias)
            if tower.projection is None
            else tower.projection
            for tower in (image, text)
        )
        self.text_pooling, self.text_padding = text_pooling, text_padding
        self.widths = {"image": image.width, "text": text.width}
        self.frozen = tuple(side for side, tower in (("image", image), ("text", text)) if tower.frozen)
        for name, values in zip(("mean", "std"), pixel_stats, strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1) * 255, persistent=False)
        for side in self.frozen:
            self.encoder(side).requires_grad_(False)
        self.train()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.mean.device

    def encoder(self, side: str) -> nn.Module:
        """Return the encoder of one side, "image" or "text"."""
        return {"image": self.image_encoder, "text": self.text_encoder}[side]

    def train(self, mode: bool = True) -> DualEncoder:
        """Set the mode, but leave what is frozen or locked in evaluation mode.

        It thus has no dropout and fixed batch-norm statistics.
        """
        super().train(mode)
        for side in self.frozen:
            self.encoder(side).eval()
        for name in self.locked:
            self.get_submodule(name).eval()
        return self

    def image_features(self, pixels: Tensor) -> Tensor:
        """Return image features [B, F], before the projection.

        They are computed from pixels [B, 3, H, W], uint8 or float in 0..255.

        Raises:
            ClipeduError: pixels of another size than `image_size`.
        """
        return self.image_encoder(self.normalise(pixels))

    def normalise(self, pixels: Tensor) -> Tensor:
        """Normalise pixels [B, 3, H, W], 0..255, as the image encoder reads them.

        Raises:
            ClipeduError: pixels of another size than `image_size`.
        """
        if self.image_size is not None and tuple(pixels.shape[-2:]) != (self.image_size, self.image_size):
            height, width = pixels.shape[-2:]
            raise ClipeduError(
                f"images of {height} x {width} pixels do not fit this model, which reads {self.image_size} x {self.image_size}: "
                f"open the pairs with image_size={self.image_size}"
            )
        x = (pixels.to(self.mean.dtype) - self.mean) / self.std
        weight = next(self.image_encoder.parameters(), x)  # of less precision than mean and std, perhaps
        return x.to(weight.dtype).contiguous(memory_format=torch.channels_last)

    def text_features(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return text features [B, G], before the projection.

        They are computed from token ids [B, L] and mask [B, L].
        """
        if self.text_padding is not None:
            length, pad = self.text_padding
            more = (0, max(0, length - ids.shape[1]))
            mask = nn.functional.pad(mask, more)
            ids = nn.functional.pad(ids, more).masked_fill(~mask, pad)
        read = self.text_encoder(input_ids=ids, attention_mask=mask.long())
        return read if self.text_pooling == "own" else pool_text(read.last_hidden_state, mask, self.text_pooling)

    def project_image(self, features: Tensor) -> Tensor:
        """Project image features [B, F] -> embeddings [B, D]."""
        return self.geometry.tangent(self.image_projection(features), "image")

    def project_text(self, features: Tensor) -> Tensor:
        """Project text features [B, G] -> embeddings [B, D]."""
        return self.geometry.tangent(self.text_projection(features), "text")

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Encode pixels [B, 3, H, W] -> embeddings [B, D]."""
        return self.project_image(self.image_features(pixels))

    def encode_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode token ids [B, L] and mask [B, L] -> embeddings [B, D].

        Of C captions a row, [B, C, L] each: [B, C, D].
        """
        if ids.ndim == 3:
            return self.encode_text(ids.flatten(0, 1), mask.flatten(0, 1)).unflatten(0, ids.shape[:2])
        return self.project_text(self.text_features(ids, mask))

    @torch.no_grad()
    def embed_texts(self, texts: list[str], *, strict: bool = True) -> Tensor:
        """Embed a user's own texts, in evaluation mode: [T, D].

        Args:
            texts: at least one.
            strict: refuse a text longer than the model reads, instead of cutting it.
        Raises:
            ClipeduError: no texts, one that is too long, or a model without a tokenizer.
            NotFinite: an embedding is not finite.
        """
        if self.tokenizer is None:
            raise ClipeduError("this model has no tokenizer: use that of a run, run.model(), or set model.tokenizer")
        if not texts:
            raise ClipeduError("there are no texts to embed: give a list of at least one")
        if self.remembered is None or "text" not in self.frozen:
            features, _ = self._features_of(texts, strict=strict)
        else:
            found = found_once(self, ("texts", strict, *texts), lambda: self._features_of(texts, strict=strict))
            features, self.tokenizer.truncated = found
        return finite_rows(self.project_text(features), "embeddings of texts", self)

    def _features_of(self, texts: list[str], *, strict: bool) -> tuple[Tensor, int]:
        """Return text features of texts, in evaluation mode, [T, G], and how many of them were cut."""
        ids, lengths = self.tokenizer.encode(texts, strict=strict)
        ids = ids[:, : lengths.max()]
        ids = torch.from_numpy(ids.astype("int64")).to(self.device)
        mask = torch.arange(ids.shape[1], device=self.device) < torch.from_numpy(lengths).to(self.device)[:, None]
        with evaluating(self):
            return self.text_features(ids, mask), getattr(self.tokenizer, "truncated", 0)

    def forward(self, image: tuple[Tensor, ...], text: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Embed a batch of pairs: [B, D] each.

        Args:
            image: (pixels,), or (features,) of a frozen image encoder.
            text: (ids, mask), or (features,) of a frozen text encoder; of C captions a row their embeddings are [B, C, D].
        """
        image_embedding = self.project_image(image[0]) if "image" in self.frozen else self.encode_image(*image)
        text_embedding = self.project_text(text[0]) if "text" in self.frozen else self.encode_text(*text)
        return image_embedding, text_embedding


def linear_projection(width: int, embedding_dim: int, *, bias: bool = False) -> nn.Linear:
    """Return a projection, features [B, width] -> embeddings [B, D].

    Without a bias its weights are drawn with standard deviation width^-1/2, so that features of unit variance become embeddings of
    unit variance: the start of CLIP (arXiv:2103.00020), open_clip, MERU (arXiv:2304.09172) and EuCLIP (arXiv:2409.13079). With one
    it is `torch.nn.Linear` as torch draws it, with a third of that variance.
    """
    if bias:
        return nn.Linear(width, embedding_dim)
    layer = nn.Linear(width, embedding_dim, bias=False)
    nn.init.normal_(layer.weight, std=width**-0.5)
    return layer


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode inside, and back in its mode afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
