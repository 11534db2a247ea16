"""Recall at k and zero-shot accuracy, from embeddings."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from clipedu.data.class_names import same_names
from clipedu.evaluation.ranks import ranks_of_own
from clipedu.inference.features import embed_in_chunks
from clipedu.models.dual_encoder import DualEncoder

log = logging.getLogger("clipedu")

CHUNK = 1 << 22  # similarities to classes held at once


class HasSimilarity(Protocol):
    """Anything that compares embeddings, such as a `Geometry`."""

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute how similar each x [A, D] is to each y [B, D]: [A, B]."""


@torch.no_grad()
def retrieval(
    image: Tensor, text: Tensor, owner: Tensor, geometry: HasSimilarity, ks: tuple[int, ...] = (1, 5, 10)
) -> dict[str, float]:
    """Compute recall at k in both directions, in percent.

    Args:
        image: [N, D].
        text: [T, D]; caption t belongs to image `owner[t]`, and every image has at least one.
        owner: int64 [T].
        geometry: of the embeddings; only its `similarity` is used.
        ks: how many of the most similar count.
    Returns:
        "tr@k" (image -> text) and "ir@k" (text -> image) for each k, "retrieval_images" N and "retrieval_captions" T.
    """
    image_rank, caption_rank = ranks_of_own(image, text, owner, geometry.similarity)
    scores = {f"tr@{k}": _percent(image_rank < k) for k in ks} | {f"ir@{k}": _percent(caption_rank < k) for k in ks}
    return scores | {"retrieval_images": len(image), "retrieval_captions": len(text)}


@torch.no_grad()
def zero_shot(
    image: Tensor, classes: Tensor, labels: Tensor, geometry: HasSimilarity, ks: tuple[int, ...] = (1, 5)
) -> dict[str, float]:
    """Compute zero-shot accuracy, in percent.

    It is the share of images whose class is among the k most similar prototypes.

    Args:
        image: [N, D].
        classes: [C, D], the prototypes (`class_prototypes`).
        labels: int64 [N], 0..C-1.
        geometry: of the embeddings; only its `similarity` is used.
        ks: how many of the most similar count.
    Returns:
        "topk" for each k, "zeroshot_images" N and "zeroshot_classes" C.
    """
    parts = zip(*(x.split(max(1, CHUNK // len(classes))) for x in (image, labels)), strict=True)
    rank = torch.cat([_rank_of(geometry.similarity(rows, classes), own) for rows, own in parts])
    return {f"top{k}": _percent(rank < k) for k in ks} | {
        "zeroshot_images": len(image),
        "zeroshot_classes": len(classes),
    }


def class_prototypes(model: DualEncoder, class_names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Compute one embedding a class, the mean over its prompts.

    The mean is the geometry's. A prompt that is longer than the model reads is cut, as a caption in training is. Log lines
    say so, and which classes have the same tokens.

    Args:
        model: with its tokenizer and geometry.
        class_names: one name a class, C of them.
        templates: with one "{}" each.
    Returns:
        float32 [C, D] on the CPU.
    Raises:
        ClipeduError: the model has no tokenizer.
    """
    prompts = [template.format(name) for name in class_names for template in templates]
    cut = 0

    def embed(rows: Tensor) -> Tensor:
        nonlocal cut
        embeddings = model.embed_texts([prompts[r] for r in rows], strict=False)
        cut += getattr(model.tokenizer, "truncated", 0)
        return embeddings

    embeddings = embed_in_chunks(embed, len(prompts))
    ids, _ = model.tokenizer.encode(prompts[:: len(templates)])
    for line in same_names({index: row.tolist() for index, row in enumerate(ids)}, class_names):
        log.warning(f"{line} by their tokens")
    if cut:
        log.warning(f"{cut:,} of {len(prompts):,} zero-shot prompts are longer than the model reads, and are cut")
    return torch.stack([model.geometry.mean(part) for part in embeddings.split(len(templates))])


def _rank_of(similarity: Tensor, column: Tensor) -> Tensor:
    """Return the rank of one column in each row.

    similarity [A, B], column int64 [A] -> int64 [A]; rank 0 is the most similar, with ties and NaN as in `ranks_of_own`.
    """
    similarity = similarity.nan_to_num(nan=-torch.inf, neginf=-torch.inf, posinf=torch.inf)
    own = similarity.gather(1, column[:, None])
    earlier = torch.arange(similarity.shape[1], device=column.device) < column[:, None]
    return ((similarity > own) | ((similarity == own) & earlier)).sum(1)


def _percent(hits: Tensor) -> float:
    return 100 * hits.double().mean().item()
