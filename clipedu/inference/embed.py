"""Embed the images and captions of a set, in evaluation mode, on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clipedu.data.pairs import Pairs
from clipedu.inference.features import (
    embed_images_in_chunks,
    embed_in_chunks,
    frozen_image_features,
    frozen_text_features,
)
from clipedu.models.dual_encoder import DualEncoder, evaluating
from clipedu.utils.finite import finite_rows


@dataclass(frozen=True)
class PairEmbeddings:
    """Embeddings of N images and of all their T captions.

    They are tangent vectors, as the encoders give them.

    Attributes:
        image: float32 [N, D].
        text: float32 [T, D], the captions of row 0, then those of row 1, ...
        owner: int64 [T], the row that each caption belongs to; ascending, and every row has at least one.
    """

    image: Tensor
    text: Tensor
    owner: Tensor

    @property
    def first_text(self) -> Tensor:
        """The first caption of each image, [N, D]."""
        return self.text[torch.searchsorted(self.owner, torch.arange(len(self.image)))]


@torch.no_grad()
def embed_images(model: DualEncoder, pairs: Pairs, *, progress: bool = False) -> Tensor:
    """Embed the image of every row.

    Args:
        model: with its weights; it stays in the mode it is in.
        pairs: N rows.
        progress: show a progress bar where it takes longer than a second.
    Returns:
        float32 [N, D]. Features of a frozen encoder are read from the cache if it has them.
    Raises:
        ClipeduError: the cache of a frozen encoder's features cannot be written.
        NotFinite: an embedding is not finite; names the side and the row.
    """
    with evaluating(model):
        if "image" not in model.frozen:
            embeddings = embed_images_in_chunks(model.encode_image, model, pairs, progress=progress)
        else:
            features = frozen_image_features(model, pairs, progress=progress)
            embeddings = model.project_image(features.to(model.device)).cpu()
    return finite_rows(embeddings, f"embeddings of the images of {pairs.name}/{pairs.split}", model)


@torch.no_grad()
def embed_captions(model: DualEncoder, pairs: Pairs, *, progress: bool = False) -> tuple[Tensor, Tensor]:
    """Embed all captions.

    Args:
        model: with its tokenizer.
        pairs: a set with at least one caption a row.
        progress: show a progress bar where it takes longer than a second.
    Returns:
        float32 [T, D], and the row of each caption, int64 [T].
    Raises:
        ClipeduError: a row has no caption, or the cache of a frozen encoder's features cannot be written.
        NotFinite: an embedding is not finite; names the side and the row.
    """
    pairs.tokenize(model.tokenizer)
    ids, mask, owner = pairs.all_tokens()

    def embed(which: Tensor) -> Tensor:
        return model.encode_text(ids[which].to(model.device), mask[which].to(model.device))

    with evaluating(model):
        if "text" not in model.frozen:
            embeddings = embed_in_chunks(embed, len(ids), what="captions", progress=progress)
        else:
            features, _ = frozen_text_features(model, pairs, progress=progress)
            embeddings = model.project_text(features.to(model.device)).cpu()
    return finite_rows(embeddings, f"embeddings of the captions of {pairs.name}/{pairs.split}", model), owner


def embed_pairs(model: DualEncoder, pairs: Pairs, *, progress: bool = False) -> PairEmbeddings:
    """Embed all images and all captions of a set.

    Args:
        model: with its tokenizer.
        pairs: N rows with T captions.
        progress: show progress bars where it takes longer than a second.
    Raises:
        ClipeduError: as `embed_images` and `embed_captions`.
    """
    image = embed_images(model, pairs, progress=progress)
    return PairEmbeddings(image, *embed_captions(model, pairs, progress=progress))


def embed_phrases(model: DualEncoder, phrases: Sequence[str]) -> Tensor:
    """Embed P captions that belong to no set: float32 [P, D]."""
    return embed_in_chunks(lambda rows: model.embed_texts([phrases[row] for row in rows], strict=False), len(phrases))
