"""A baseline without contrastive learning.

A ridge regression predicts tf-idf vectors of captions from image features. An image is predicted to be the mean tf-idf
vector of its captions; images and captions are then compared by cosine. The regression is fitted on the training split
alone; its regularisation is chosen on a tenth of that split held out. A text tower that is trained over the same frozen
features should beat it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from clipedu.config.experiment import Experiment
from clipedu.data.pairs import Pairs
from clipedu.evaluation.recall import retrieval
from clipedu.geometry import Cosine
from clipedu.inference.features import frozen_image_features
from clipedu.models import build_model
from clipedu.training.datasets import Data
from clipedu.utils.device import pick_device
from clipedu.utils.errors import ClipeduError, quoted

_SEED = 0  # of the rows held out to choose alpha: the same for each seed of a run
ALPHAS = (1e2, 1e3, 1e4, 1e5)


class NoWords(ClipeduError):
    """Captions in which there is no word to regress on."""


def ridge_baseline(experiment: Experiment, data: Data) -> dict[str, Any]:
    """Return the retrieval scores of a ridge regression.

    Its inputs are the experiment's frozen image features.

    Args:
        experiment: says which image encoder.
        data: `load_data(experiment)`: it is fitted on the training pairs, and scored on the retrieval set.

    Returns:
        as `clipedu.evaluation.retrieval`, with "name", "alpha" (chosen), "words" (in the tf-idf), "sets" (split ->
        identity) and "seconds".

    Raises:
        NoWords: the captions hold no word to regress on.
    """
    began = time.perf_counter()
    train, val = data.train, data.scored[0]
    model = build_model(experiment, vocab_size=1000).to(pick_device(experiment.device))
    features, test_features = (frozen_image_features(model, pairs).double().numpy() for pairs in (train, val))
    alpha = _choose_alpha(features, train)
    scores = fit_and_score(features, _captions(train), test_features, _captions(val), alpha)
    return {
        "name": "ridge regression to tf-idf",
        "alpha": alpha,
        "train_images": len(train),
        "sets": {pairs.split: pairs.identity() for pairs in (train, val)},
        **scores,
        "seconds": round(time.perf_counter() - began, 1),
    }


def _choose_alpha(features: np.ndarray, train: Pairs) -> float:
    """Return the best alpha on a tenth of the pairs, held out: at least two, for one cannot be ranked.

    Of fewer than four pairs none are held out, and alpha is the largest.
    """
    if len(train) < 4:
        return ALPHAS[-1]
    held_out = np.random.default_rng(_SEED).permutation(len(train)) < max(2, len(train) // 10)
    choices = {
        alpha: fit_and_score(
            features[~held_out], _captions(train, ~held_out), features[held_out], _captions(train, held_out), alpha
        )
        for alpha in ALPHAS
    }
    return max(choices, key=lambda a: choices[a]["tr@1"] + choices[a]["ir@1"])


def fit_and_score(
    features: np.ndarray,
    captions: Sequence[Sequence[str]],
    test_features: np.ndarray,
    test_captions: Sequence[Sequence[str]],
    alpha: float,
) -> dict[str, Any]:
    """Fit the regression on N images; return the scores on M others.

    Args:
        features: [N, F] of the images to fit.
        captions: the captions of each.
        test_features: [M, F] of the images to score.
        test_captions: the captions of each.
        alpha: the strength of the regularisation.

    Returns:
        as `clipedu.evaluation.retrieval`, with "words", the size of the vocabulary.

    Raises:
        NoWords: the captions hold no word.
    """
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    tfidf = _vocabulary([text for texts in captions for text in texts])
    target = np.stack([np.asarray(tfidf.transform(texts).mean(axis=0))[0] for texts in captions])
    scaler = StandardScaler().fit(features)
    ridge = Ridge(alpha=alpha).fit(scaler.transform(features), target)
    predicted = ridge.predict(scaler.transform(test_features)) - target.mean(axis=0)
    texts = tfidf.transform([text for texts in test_captions for text in texts]).toarray() - target.mean(axis=0)
    owner = torch.from_numpy(np.repeat(np.arange(len(test_captions)), [len(texts) for texts in test_captions]))
    scores = retrieval(torch.from_numpy(predicted), torch.from_numpy(texts), owner, Cosine())
    return {**scores, "words": len(tfidf.vocabulary_)}


def _vocabulary(texts: list[str]) -> Any:
    """Return tf-idf of the words that are in two captions, or of all words where none is. Raises NoWords."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    for least in (2, 1):
        with suppress(ValueError):  # no word is left
            return TfidfVectorizer(sublinear_tf=True, min_df=least).fit(texts)
    raise NoWords(f"the {len(texts)} captions hold no word of two letters or more, such as {quoted(texts[:1])}")


def _captions(pairs: Pairs, keep: np.ndarray | None = None) -> list[list[str]]:
    return [pairs.captions(row) for row in range(len(pairs)) if keep is None or keep[row]]
