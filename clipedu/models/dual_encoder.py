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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clipedu.geometry import Geometry, build_geometry
from clipedu.models.image_encoders import PixelStats, build_image_encoder, feature_width, pixel_stats
from clipedu.models.remembered import found_once
from clipedu.models.special_tokens import OWN_TOKENS
from clipedu.models.text_encoders import build_text_encoder, pool_text
from clipedu.models.text_probe import check_length, choose_pooling, probe
from clipedu.utils.errors import ClipeduError, quoted
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
        parts: {beginning of a parameter's name: part} for `NormMonitor`; None leaves it to the names.
    """

    remembered: dict[Any, Any] | None = None
    image_size: int | None = None
    resize: str = "crop"
    logit_scale: float | None = None
    logit_bias: float | None = None
    parts: Mapping[str, str] | None = None
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
    ):
        super().__init__()
        self.tokenizer: Any = None
        self.geometry = geometry
        self.image_encoder, self.text_encoder = image.encoder, text.encoder
        self.image_projection = _projection(image, embedding_dim)
        self.text_projection = _projection(text, embedding_dim)
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
        """Set the mode, but leave a frozen encoder in evaluation mode.

        A frozen encoder thus has no dropout and fixed batch-norm statistics.
        """
        super().train(mode)
        for side in self.frozen:
            self.encoder(side).eval()
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
        """Encode token ids [B, L] and mask [B, L] -> embeddings [B, D]."""
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
            text: (ids, mask), or (features,) of a frozen text encoder.
        """
        image_embedding = self.project_image(image[0]) if "image" in self.frozen else self.encode_image(*image)
        text_embedding = self.project_text(text[0]) if "text" in self.frozen else self.encode_text(*text)
        return image_embedding, text_embedding


def _projection(tower: Tower, embedding_dim: int) -> nn.Module:
    return nn.Linear(tower.width, embedding_dim) if tower.projection is None else tower.projection


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode inside, and back in its mode afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def build_model(
    experiment: Any,
    vocab_size: int,
    *,
    special_tokens: Mapping[str, int | None] | None = None,
    saved_text: Path | None = None,
) -> DualEncoder:
    """Build the dual encoder of an experiment, on the CPU.

    Its random parts are drawn from the experiment's seed.

    Each part has random numbers of its own, so that another image encoder leaves the text encoder what it was. The
    global random state is neither used nor changed.

    Args:
        experiment: a `clipedu.Experiment`, a class that this package does not import.
        vocab_size: of the tokenizer in use.
        special_tokens: its ids of special tokens (`Tokenizer.special_tokens`); None takes those of our own tokenizers.
        saved_text: folder of the text encoder's configuration in a run, which is then built as it was, unchecked, with the
            experiment's weights; None builds and checks the experiment's.
    Raises:
        ClipeduError: unknown encoders or options, weights that are missing, sizes that do not fit, or a text encoder that
            cannot read captions as the experiment asks.
    """
    ex = experiment
    with torch.random.fork_rng(devices=[]):
        _seed(ex.seed, part=0)
        image = build_image_encoder(ex.image_encoder, ex.image_weights, image_size=ex.image_size, **ex.image_options)
        _seed(ex.seed, part=1)
        if saved_text is None:
            text = build_text_encoder(
                ex.text_encoder,
                ex.text_weights,
                vocab_size=vocab_size,
                special_tokens=special_tokens,
                **ex.text_options,
            )
        else:
            text = build_text_encoder(str(saved_text.resolve()), ex.text_weights, vocab_size=vocab_size)
        width, pooling, padding = _fit_text(text, ex, special_tokens or OWN_TOKENS, saved=saved_text is not None)
        stats = pixel_stats(image, ex.pixel_stats)
        _seed(ex.seed, part=2)
        model = DualEncoder(
            Tower(image, feature_width(image, ex.image_size), ex.image_frozen),
            Tower(text, width, ex.text_frozen),
            embedding_dim=ex.embedding_dim,
            pixel_stats=stats,
            geometry=build_geometry(ex.geometry, ex.embedding_dim, **ex.geometry_options),
            text_pooling=pooling,
            text_padding=padding,
        )
    return model.to(memory_format=torch.channels_last)


def _fit_text(
    text: Any, ex: Any, special: Mapping[str, int | None], *, saved: bool
) -> tuple[int, str, tuple[int, int] | None]:
    """Return width, pooling and padding for a text encoder, as it is measured to read.

    One that was saved in a run stays what it was: it is not checked, and is padded to one length only if it was so before.
    """
    if next(text.parameters()).is_meta:  # it has sizes alone, which is all that is asked of it
        ids = torch.zeros((1, 4), dtype=torch.long, device="meta")
        return text(input_ids=ids).last_hidden_state.shape[-1], "mean", None
    reading = probe(text, ex.text_encoder, ex.text_length, special)
    padded = getattr(text.config, "clipedu_padded_to", None)
    if saved:
        if padded is not None and (type(padded) is not int or padded != ex.text_length):
            raise ClipeduError(
                f"the run's text configuration has clipedu_padded_to={quoted(padded)}: it must be text_length, {ex.text_length}"
            )
        how = choose_pooling(ex.text_pooling, reading) if ex.text_pooling == "auto" else ex.text_pooling
    else:
        check_length(ex.text_length, reading, ex.text_encoder)
        how = choose_pooling(ex.text_pooling, reading, ex.text_encoder)
        padded = ex.text_length if reading.padding_moves else None
    if padded is None:
        return reading.width, how, None
    if not saved:
        text.config.clipedu_padded_to = padded  # kept with the run
        text.made_as += f" padded to {padded}"
        log.warning(
            "text encoder %r: padding moves its vectors by up to %.0f %%, so every caption is padded to text_length=%d "
            "tokens; bert, distilbert and modernbert read the mask and need no padding",
            ex.text_encoder,
            100 * reading.moved,
            padded,
        )
    return reading.width, how, (padded, special.get("pad") or 0)


def _seed(seed: int, part: int) -> None:
    """Seed the CPU's generator alone.

    torch.manual_seed seeds those of all devices, which fork_rng would not restore.
    """
    torch.default_generator.manual_seed(int(np.random.SeedSequence((seed, part)).generate_state(1, np.uint64)[0]))
