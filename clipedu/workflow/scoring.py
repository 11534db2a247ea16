"""Score a run: metrics, embeddings and tokens into its folder."""

from __future__ import annotations

import torch

from clipedu.data.pairs import Pairs
from clipedu.evaluation.embedding_space import chains_of
from clipedu.evaluation.scoring import average, evaluate, score_pairs
from clipedu.inference.embed import embed_pairs, embed_phrases
from clipedu.runs.run import Run
from clipedu.runs.token_files import keep_tokens
from clipedu.training.datasets import evaluation_sets
from clipedu.utils.device import pick_device

KEPT_EMBEDDINGS, KEPT_CHAINS = 1000, 200


def score(run: Run, model=None, sets: list[Pairs] | None = None, *, progress: bool = True) -> dict[str, float]:
    """Evaluate a run's model on its retrieval and zero-shot sets; write metrics and embeddings into its folder.

    Args:
        model, sets: the run's model and its sets, where a caller has them already.
    """
    model = model or run.model().to(pick_device(run.experiment.device))
    metrics: dict[str, float] = {}
    for pairs in sets or evaluation_sets(run.experiment):
        if pairs.split == "zeroshot":
            metrics |= evaluate(model, pairs, progress=progress)
        else:
            embeddings = embed_pairs(model, pairs, progress=progress)
            metrics |= score_pairs(model, pairs, embeddings)
            _keep_embeddings(run, model, pairs, *embeddings)
            keep_tokens(run.folder, model, pairs)
    metrics["average"] = average(metrics)
    run.save_metrics(metrics)
    return metrics


def _keep_embeddings(run: Run, model, pairs: Pairs, image, text, owner) -> None:
    """Keep the first pairs, and where there are chains of captions, those of the first rows, for figures of the hierarchy."""
    rows = torch.arange(min(KEPT_EMBEDDINGS, len(pairs)))
    tensors = {"image": image[rows], "text": text[torch.searchsorted(owner, rows)]}
    words = {"captions": [pairs.captions(int(row))[0] for row in rows]}
    if hasattr(pairs, "chain"):
        phrases, chain = chains_of(pairs, range(min(KEPT_CHAINS, len(pairs))))
        tensors |= {"phrase": embed_phrases(model, phrases), "chain": chain}
        words["phrases"] = phrases
    run.save_embeddings(tensors, words)
