"""Score a run: metrics, embeddings and tokens into its folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from clipedu.data.pairs import Pairs
from clipedu.evaluation.embedding_space import Space, embed_space
from clipedu.evaluation.held_out import trained_counts
from clipedu.evaluation.metrics import AVERAGED_PREFIX, METRICS
from clipedu.evaluation.scoring import average, evaluate, score_pairs
from clipedu.inference.embed import embed_pairs
from clipedu.models.dual_encoder import DualEncoder
from clipedu.runs.lock import locked
from clipedu.runs.run import Run
from clipedu.runs.token_files import keep_tokens
from clipedu.runs.trained_rows import note_changes, shared_with_training
from clipedu.training.datasets import describe
from clipedu.utils.device import pick_device
from clipedu.utils.finite import check_model

log = logging.getLogger("clipedu")

KEPT_EMBEDDINGS, KEPT_CHAINS = 1000, 200


def score(
    run: Run,
    sets: Sequence[Pairs],
    *,
    model: DualEncoder | None = None,
    averaged: DualEncoder | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """Evaluate a run's model, and write the results into the run's folder.

    The results are metrics, embeddings and tokens. Of each set the rows are counted that the run was trained on. A set that
    has changed since the training is named by a warning, and in data.json. Where the run keeps averaged weights
    (`ema_decay`), a model with these is scored beside its own; its scores have the prefix `AVERAGED_PREFIX`.

    Args:
        run: stopped or finished, with a checkpoint.
        sets: what to score on: `evaluation_sets(run.experiment)`, or the sets that a caller has opened already.
        model: the run's model, where a caller has it; None loads the last checkpoint, the averaged weights too, or where it is
            damaged the one before it: a log line and the metrics "scored_step" and "last_step" say so.
        averaged: the model with averaged weights, where a caller has one.
        progress: show progress bars.
    Returns:
        the metrics, as `clipedu.evaluate` names them.
    Raises:
        ClipeduError: the run has no checkpoint, the model does not fit the sets, or another process has the run in use.
        NotFinite: a weight or an embedding is not finite; the scores in the folder stay as they are.
    """
    with locked(run.folder):
        metrics: dict[str, float] = {}
        if model is None:
            metrics |= run.choose_sound_checkpoint()
            device = pick_device(run.experiment.device)
            model = run.model().to(device)
            averaged = run.model(averaged=True).to(device) if run.averaged() is not None else None
        beside: dict[str, float] = {}
        for pairs in sets:
            scores, space = score_set(model, pairs, progress=progress)
            metrics |= scores
            if space is not None:
                _keep_embeddings(run, space)
                keep_tokens(run.folder, model, pairs)
            if averaged is not None:
                beside |= score_set(averaged, pairs, progress=progress)[0]
            metrics |= trained_counts(pairs, shared_with_training(run.folder, pairs))
        metrics["average"] = average(metrics)
        if averaged is not None:
            beside["average"] = average(beside)
            metrics |= {AVERAGED_PREFIX + key: beside[key] for key in METRICS if key in beside}
        run.save_metrics(metrics)
        for line in note_changes(run.folder, [(pairs, describe(pairs)) for pairs in sets]):
            log.warning(line)
    return metrics


def score_set(model: DualEncoder, pairs: Pairs, *, progress: bool = True) -> tuple[dict[str, float], Space | None]:
    """Score a model on one of the sets of a run.

    Args:
        model: with its tokenizer.
        pairs: a retrieval set, or the zero-shot set (split "zeroshot").
        progress: show progress bars.
    Returns:
        the scores, without an average over the sets; and the embeddings of a retrieval set.
    Raises:
        NotFinite: a weight or an embedding is not finite.
    """
    if pairs.split == "zeroshot":
        return evaluate(model, pairs, progress=progress), None
    check_model(model)
    embeddings = embed_pairs(model, pairs, progress=progress)
    space = embed_space(model, pairs, embeddings)
    return score_pairs(pairs, embeddings, space, model), space


def _keep_embeddings(run: Run, space: Space) -> None:
    """Keep the embeddings of the first pairs.

    Where there are chains of captions, those of the first rows are kept too, for figures of the hierarchy.
    """
    kept = slice(KEPT_EMBEDDINGS)
    tensors = {"image": space.image[kept].float(), "text": space.text[kept].float()}
    words = {"captions": space.captions[kept]}
    if space.chain is not None:
        chain = space.chain[:KEPT_CHAINS]
        phrases = int(chain.max()) + 1  # numbered in order of appearance, so the first chains use the first phrases
        tensors |= {"phrase": space.phrase[:phrases].float(), "chain": chain}
        words["phrases"] = space.phrases[:phrases]
    run.save_embeddings(tensors, words)
