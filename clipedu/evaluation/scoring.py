"""Scores of a model: retrieval, zero-shot, shape of its embedding space.

    TR@k  text retrieval, image -> text: share of images with one of their own captions among the k most similar
    IR@k  image retrieval, text -> image: share of captions whose own image is among the k most similar
    topk  zero-shot: share of images whose class is among the k most similar prototypes (means of prompt embeddings)

All in percent. `average` is the course's score, the mean of TR@1, IR@1 and top-1 (of those that there are). Equal
similarities are ranked by order, so a collapsed model (all similarities equal, or NaN) scores chance, not 100 %.
"""

from __future__ import annotations

from clipedu.data.graded_pairs import GradedPairs
from clipedu.data.pairs import Pairs
from clipedu.data.prompts import prompt_facts
from clipedu.evaluation.alignment import embedding_shape
from clipedu.evaluation.embedding_space import Space, embed_space, norm_summary
from clipedu.evaluation.foils import foil_scores
from clipedu.evaluation.hierarchy import hierarchy_scores
from clipedu.evaluation.metrics import AVERAGED
from clipedu.evaluation.recall import class_prototypes, retrieval, zero_shot
from clipedu.inference.embed import PairEmbeddings, embed_captions, embed_images
from clipedu.models.dual_encoder import DualEncoder
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import check_model


def evaluate(model: DualEncoder, pairs: Pairs, *, progress: bool = False) -> dict[str, float]:
    """Score a model on one set.

    The scores are retrieval where the set has captions, and zero-shot where it has named classes.

    Args:
        model: as `run.model()` returns it, with its tokenizer. It stays in the mode it is in.
        pairs: a retrieval set (split "val") or a labelled one (split "zeroshot", whose captions are not used).
        progress: show progress bars.
    Returns:
        "tr@1/5/10", "ir@1/5/10", "alignment", "uniformity", "modality_gap" and the measures of
        `clipedu.evaluation.hierarchy` for captions, for those of scenes also of `clipedu.evaluation.foils`; "top1",
        "top5" for labels, and what `prompt_facts` says of their names; "average"; and the counts that give the level of chance.
    Raises:
        ClipeduError: there is nothing to score, or the model has no tokenizer.
        NotFinite: a weight, a buffer or an embedding is not finite; names it.
    """
    if model.tokenizer is None:
        raise ClipeduError("this model has no tokenizer: use that of a run, run.model(), or set model.tokenizer")
    check_model(model)
    captioned = pairs.split != "zeroshot" and bool(pairs.captions(0))
    labels, class_names = pairs.labels, pairs.class_names
    if not captioned and (labels is None or class_names is None):
        raise ClipeduError(
            f"{pairs.name}/{pairs.split} has neither captions nor named classes, so nothing can be scored"
        )
    scores: dict[str, float] = {}
    image = embed_images(model, pairs, progress=progress)
    if captioned:
        embeddings = PairEmbeddings(image, *embed_captions(model, pairs, progress=progress))
        scores |= score_pairs(pairs, embeddings, embed_space(model, pairs, embeddings), model)
    if labels is not None and class_names is not None:
        scores |= zero_shot(image, class_prototypes(model, class_names, pairs.templates), labels, model.geometry)
        scores |= prompt_facts(pairs)
    return scores | {"average": average(scores)}


def score_pairs(pairs: Pairs, embeddings: PairEmbeddings, space: Space, model: DualEncoder) -> dict[str, float]:
    """Compute all scores of a set with captions.

    They are `retrieval` of all captions; `embedding_shape` and `norm_summary` of images and first captions; and where
    it is known what the captions claim (scenes), `hierarchy_scores` and `foil_scores`.

    Args:
        pairs: N rows with captions.
        embeddings: `embed_pairs(model, pairs)`.
        space: `embed_space(model, pairs, embeddings)`.
        model: embeds the foils, which no set holds.
    Returns:
        scores by key (`clipedu.evaluation.metrics`).
    Raises:
        ClipeduError: a set with chains and one row only.
    """
    image, first, geometry = embeddings.image, embeddings.first_text, space.geometry
    scores: dict[str, float] = retrieval(image, embeddings.text, embeddings.owner, geometry)
    scores |= embedding_shape(image, first) | norm_summary(geometry, image, first)
    scores["modality_distance"] = geometry.distance(*(geometry.mean(x)[None] for x in (image, first))).item()
    if isinstance(pairs, GradedPairs) and space.chain is not None:
        scores |= hierarchy_scores(space, pairs)
        scores |= foil_scores(model, pairs, image, true=space.phrase[space.chain[:, -1]].to(image.dtype))
    return scores


def average(scores: dict[str, float]) -> float:
    """Average TR@1, IR@1 and zero-shot top-1, of those that `scores` holds.

    This is the score of the course.
    """
    present = [scores[key] for key in AVERAGED if key in scores]
    return sum(present) / len(present)
