"""The ridge baseline: against its formula typed out with numpy, and better than chance on real photographs."""

import os
from pathlib import Path

import numpy as np
import pytest

from clipedu import Experiment
from clipedu.studies.baseline import ALPHAS, NoWords, fit_and_score, ridge_baseline
from clipedu.training.datasets import load_data


def test_against_the_formula():
    """Six images, words that go with features: ridge = (X'X + alpha I)^-1 X'(Y - mean Y) on standardised X, by hand."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 5))
    words = ["red", "blue", "star", "ring", "box"]
    captions = [[" ".join(w for w, x in zip(words, row, strict=True) if x > 0) or "none", "none"] for row in features]
    scores = fit_and_score(features, captions, features, captions, alpha=2.0)

    from sklearn.feature_extraction.text import TfidfVectorizer

    tfidf = TfidfVectorizer(sublinear_tf=True, min_df=2).fit(text for texts in captions for text in texts)
    y = np.stack([tfidf.transform(texts).toarray().mean(0) for texts in captions])
    x = (features - features.mean(0)) / features.std(0)
    weights = np.linalg.solve(x.T @ x + 2.0 * np.eye(5), x.T @ (y - y.mean(0)))
    texts = tfidf.transform([text for texts in captions for text in texts]).toarray() - y.mean(0)
    predicted = x @ weights
    cosine = (predicted / np.linalg.norm(predicted, axis=1, keepdims=True)) @ (
        texts / np.linalg.norm(texts, axis=1, keepdims=True)
    ).T
    owner = np.repeat(np.arange(40), 2)
    naive = 100 * np.mean([owner[np.argsort(-row, kind="stable")[0]] == image for image, row in enumerate(cosine)])
    assert scores["tr@1"] == pytest.approx(naive)


@pytest.mark.skipif("CLIPEDU_DATA" not in os.environ, reason="CLIPEDU_DATA is not set: no real photographs here")
def test_beats_chance_on_photographs():
    """On 256 tiny photographs with pretrained features: far from good, but not chance (0.78 % at 128 images)."""
    weights = Path(os.environ["CLIPEDU_DATA"]) / "weights" / "mobilenetv2_100_tf_224_ptq.fp32.safetensors"
    experiment = Experiment(
        data="flickr8k-tiny",
        train_size=None,
        image_size=96,
        image_encoder="mobilenetv2_100",
        image_weights=str(weights),
        image_options={"pad_type": "same"},
        image_frozen=True,
        pixel_stats="inception",
    )
    scores = ridge_baseline(experiment, load_data(experiment))
    assert scores["tr@10"] > 2 * 100 * 10 / 128 and scores["ir@10"] > 2 * 100 * 10 / 128


@pytest.mark.parametrize("rows", [2, 3, 4, 10, 19, 20])
def test_few_rows_are_enough(quick, rows):
    """A tenth of 10 to 19 rows is one, which cannot be ranked; of fewer it is none."""
    experiment = quick.replace(train_size=rows, batch_size=2, image_frozen=True)
    data = load_data(experiment)
    data.scored[0] = load_data(experiment.replace(train_size=30)).train  # less to compute than the whole of val
    scores = ridge_baseline(experiment, data)
    assert scores["alpha"] in ALPHAS and scores["train_images"] == rows and 0 <= scores["tr@1"] <= 100


def test_captions_without_a_word_in_common_and_without_any():
    features = np.random.default_rng(0).normal(size=(4, 3))
    apart = [["red star"], ["blue ring"], ["green box"], ["white heart"]]
    assert fit_and_score(features, apart, features, apart, alpha=1.0)["words"] == 8
    with pytest.raises(NoWords, match=r"the 4 captions hold no word of two letters or more, such as \['a'\]"):
        fit_and_score(features, [["a"], ["b"], ["!"], [""]], features, apart, alpha=1.0)
