"""How good a model is: retrieval, zero-shot classification, and the shape of its embedding space.

    TR@k  text retrieval, image -> text: share of images with one of their own captions among the k most similar
    IR@k  image retrieval, text -> image: share of captions whose own image is among the k most similar
    topk  zero-shot: share of images whose class is among the k most similar class prototypes (mean of prompt embeddings)

All in percent. `average` is the course's score, the mean of TR@1, IR@1 and top-1 (of those that there are). An equal
similarity is broken by order, so a collapsed model (all similarities equal, or NaN) scores chance, not 100 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipedu.data.pairs import Pairs
from clipedu.features import embed_images_in_chunks, embed_in_chunks, frozen_image_features, frozen_text_features
from clipedu.foils import foil_scores
from clipedu.hierarchy import hierarchy_scores, norm_summary
from clipedu.models.dual import DualEncoder, evaluating
from clipedu.registry import ClipeduError

CHUNK = 1 << 24  # similarities held at once


def evaluate(model: DualEncoder, pairs: Pairs, *, progress: bool = False) -> dict[str, float]:
    """Scores of a model on one set: retrieval where it has captions, zero-shot where it has named classes.

    Args:
        model: as `run.model()` returns it, with its tokenizer. It stays in the mode it is in.
        pairs: a retrieval set (split "val") or a labelled one (split "zeroshot", whose captions are not looked at).
    Returns:
        "tr@1/5/10", "ir@1/5/10", "alignment", "uniformity", "modality_gap" and the measures of `clipedu.hierarchy` for
        captions, for those of scenes also of `clipedu.foils`; "top1", "top5" for labels; "average"; and the counts that give the level of chance.
    Raises:
        ClipeduError: there is nothing to score, or the model has no tokenizer.
    """
    if model.tokenizer is None:
        raise ClipeduError("this model has no tokenizer: take the one of a run, run.model(), or set model.tokenizer")
    captioned = pairs.split != "zeroshot" and bool(pairs.captions(0))
    labelled = pairs.labels is not None and pairs.class_names is not None
    if not captioned and not labelled:
        raise ClipeduError(
            f"{pairs.name}/{pairs.split} has neither captions nor named classes, so nothing can be scored"
        )
    scores: dict[str, float] = {}
    image = embed_images(model, pairs, progress=progress)
    if captioned:
        scores |= score_pairs(model, pairs, (image, *embed_captions(model, pairs, progress=progress)))
    if labelled:
        classes = class_prototypes(model, pairs.class_names, pairs.templates)
        scores |= zero_shot(image, classes, pairs.labels, model.geometry)
    return scores | {"average": average(scores)}


def score_pairs(model: DualEncoder, pairs: Pairs, embeddings: tuple[Tensor, Tensor, Tensor]) -> dict[str, float]:
    """All scores of a set with captions, from its embeddings (`embed_pairs`).

    `retrieval` of all captions; `embedding_shape` and `norm_summary` of images and first captions; and where the set knows
    what its captions claim (scenes), `hierarchy_scores` and `foil_scores`.
    """
    image, text, owner = embeddings
    first = text[torch.searchsorted(owner, torch.arange(len(image)))]
    scores = retrieval(image, text, owner, model.geometry)
    scores |= embedding_shape(image, first) | norm_summary(model.geometry, image, first)
    scores["modality_distance"] = model.geometry.distance(
        *(model.geometry.mean(x)[None] for x in (image, first))
    ).item()
    if hasattr(pairs, "chain"):
        scores |= hierarchy_scores(model, pairs, embeddings) | foil_scores(model, pairs, image)
    return scores


def average(scores: dict[str, float]) -> float:
    """The course's score: the mean of TR@1, IR@1 and zero-shot top-1, of those that `scores` holds."""
    present = [scores[key] for key in ("tr@1", "ir@1", "top1") if key in scores]
    return sum(present) / len(present)


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


@torch.no_grad()
def retrieval(
    image: Tensor, text: Tensor, owner: Tensor, geometry, ks: tuple[int, ...] = (1, 5, 10)
) -> dict[str, float]:
    """Recall at k in both directions, in percent.

    Args:
        image: [N, D].
        text: [T, D]; caption t belongs to image `owner[t]`, and every image has at least one.
        owner: int64 [T].
        geometry: has `similarity(x [A, D], y [B, D]) -> [A, B]`.
    Returns:
        "tr@k" (image -> text) and "ir@k" (text -> image) for each k, "retrieval_images" N and "retrieval_captions" T.
    """
    images, captions = len(image), len(text)
    rows = torch.arange(images, device=owner.device)
    image_rank = torch.cat(
        [
            _rank_of_own(geometry.similarity(image[part], text), rows[part, None] == owner)
            for part in rows.split(max(1, CHUNK // captions))
        ]
    )
    caption_rank = torch.cat(
        [
            _rank_of_own(geometry.similarity(text[part], image), owner[part, None] == rows)
            for part in torch.arange(captions, device=owner.device).split(max(1, CHUNK // images))
        ]
    )
    scores = {f"tr@{k}": _percent(image_rank < k) for k in ks} | {f"ir@{k}": _percent(caption_rank < k) for k in ks}
    return scores | {"retrieval_images": images, "retrieval_captions": captions}


@torch.no_grad()
def zero_shot(
    image: Tensor, classes: Tensor, labels: Tensor, geometry, ks: tuple[int, ...] = (1, 5)
) -> dict[str, float]:
    """Zero-shot accuracy: image embeddings [N, D] against class prototypes [C, D], labels int64 [N]. In percent."""
    own = labels[:, None] == torch.arange(len(classes), device=labels.device)
    parts = torch.arange(len(image), device=labels.device).split(max(1, CHUNK // len(classes)))
    rank = torch.cat([_rank_of_own(geometry.similarity(image[part], classes), own[part]) for part in parts])
    return {f"top{k}": _percent(rank < k) for k in ks} | {
        "zeroshot_images": len(image),
        "zeroshot_classes": len(classes),
    }


def class_prototypes(model: DualEncoder, class_names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """One embedding a class, [C, D] on the CPU: the geometry's mean over the prompts made from all templates.

    A prompt that is longer than the model reads is cut, as a caption in training is.
    """
    prompts = [template.format(name) for name in class_names for template in templates]
    embeddings = embed_in_chunks(lambda rows: model.embed_texts([prompts[r] for r in rows], strict=False), len(prompts))
    return torch.stack([model.geometry.mean(part) for part in embeddings.split(len(templates))])


@torch.no_grad()
def embedding_shape(image: Tensor, text: Tensor) -> dict[str, float]:
    """Alignment, uniformity and modality gap of matched unit embeddings [N, D].

    alignment     mean ||x_i - y_i||^2, from 0 (equal) to 4; Wang and Isola 2020 (arXiv 2005.10242), alpha = 2
    uniformity    log mean_{i != j} exp(-2 ||x_i - x_j||^2), mean of both sides; lower is more uniform (same paper, t = 2)
    modality_gap  ||mean x - mean y||, from 0 to 2; Liang et al. 2022 (arXiv 2203.02053)
    """
    x, y = (normalize(side.double(), dim=1) for side in (image, text))
    return {
        "alignment": (x - y).square().sum(1).mean().item(),
        "uniformity": (_uniformity(x) + _uniformity(y)) / 2,
        "modality_gap": (x.mean(0) - y.mean(0)).norm().item(),
    }


def _uniformity(x: Tensor, most: int = 2000) -> float:
    """log of the mean of exp(-2 d^2) over all pairs of the first `most` rows; 0 for a single row."""
    squared = torch.pdist(x[:most]).square()
    return (-2 * squared).logsumexp(0).sub(math.log(len(squared))).item() if len(squared) else 0.0


def _rank_of_own(similarity: Tensor, own: Tensor) -> Tensor:
    """Rank (0 = most similar) of the best of a row's own columns. similarity [A, B], own bool [A, B] -> int64 [A].

    Ties count by column order, as a stable sort would put them; NaN counts as the least similar.
    """
    similarity = similarity.nan_to_num(nan=-torch.inf, neginf=-torch.inf, posinf=torch.inf)
    best = similarity.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
    first = ((similarity == best) & own).int().argmax(1, keepdim=True)
    ahead = (similarity > best) | (
        (similarity == best) & (torch.arange(similarity.shape[1], device=similarity.device) < first)
    )
    return ahead.sum(1)


def _percent(hits: Tensor) -> float:
    return 100 * hits.double().mean().item()
