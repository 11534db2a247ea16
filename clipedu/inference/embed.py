"""Embeddings of the images and captions of a set."""

from __future__ import annotations

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


@torch.no_grad()
def embed_images(model: DualEncoder, pairs: Pairs, *, progress: bool = False) -> Tensor:
    """Raw image embeddings of every row, [N, D] on the CPU, in evaluation mode."""
    with evaluating(model):
        if "image" not in model.frozen:
            return embed_images_in_chunks(model.encode_image, model, pairs, progress=progress)
        features = frozen_image_features(model, pairs, progress=progress)
        return model.project_image(features.to(model.device)).cpu()


@torch.no_grad()
def embed_captions(model: DualEncoder, pairs: Pairs, *, progress: bool = False) -> tuple[Tensor, Tensor]:
    """Raw embeddings of all captions, [T, D] on the CPU, in evaluation mode, and the row of each, int64 [T]."""
    pairs.tokenize(model.tokenizer)
    ids, mask, owner = pairs.all_tokens()

    def embed(which: Tensor) -> Tensor:
        return model.encode_text(ids[which].to(model.device), mask[which].to(model.device))

    with evaluating(model):
        if "text" not in model.frozen:
            return embed_in_chunks(embed, len(ids), what="captions", progress=progress), owner
        features, _ = frozen_text_features(model, pairs, progress=progress)
        return model.project_text(features.to(model.device)).cpu(), owner


def embed_pairs(model: DualEncoder, pairs: Pairs, *, progress: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Raw embeddings of all images [N, D] and all captions [T, D], and the row of each caption, int64 [T]."""
    return embed_images(model, pairs, progress=progress), *embed_captions(model, pairs, progress=progress)


def embed_phrases(model, phrases: list[str]) -> Tensor:
    """Embeddings [P, D] of P captions, on the CPU."""
    return embed_in_chunks(lambda rows: model.embed_texts([phrases[row] for row in rows], strict=False), len(phrases))
