"""Scoring a run: its metrics, and what is kept for its figures."""

import shutil

import pytest
import torch

from clipedu import load_run
from clipedu.data.scenes.dataset import Scenes
from clipedu.evaluation import scoring as scores
from clipedu.evaluation.embedding_space import chains_of
from clipedu.inference.embed import embed_pairs, embed_phrases
from clipedu.models.dual_encoder import DualEncoder
from clipedu.workflow import scoring
from clipedu.workflow.scoring import score


@pytest.fixture
def copy(finished, tmp_path):
    return load_run(shutil.copytree(finished.folder, tmp_path / "copy"))


def test_what_is_kept_is_what_the_model_gives(copy, monkeypatch):
    monkeypatch.setattr(scoring, "KEPT_EMBEDDINGS", 12)
    monkeypatch.setattr(scoring, "KEPT_CHAINS", 5)
    pairs, model = Scenes("val", 20), copy.model()
    metrics = score(copy, [pairs], model=model, progress=False)
    assert load_run(copy.folder).metrics == metrics and metrics["retrieval_images"] == 20
    kept, embeddings = copy.embeddings(), embed_pairs(model, pairs)
    assert torch.equal(kept["image"], embeddings.image[:12]) and torch.equal(kept["text"], embeddings.first_text[:12])
    assert kept["captions"] == [pairs.captions(row)[0] for row in range(12)]
    phrases, chain = chains_of(pairs, range(5))
    assert kept["phrases"] == phrases and torch.equal(kept["chain"], chain)
    torch.testing.assert_close(kept["phrase"], embed_phrases(model, phrases), rtol=1e-5, atol=1e-5)


def test_no_caption_is_embedded_twice(copy, monkeypatch):
    """Captions of the set, phrases of all chains, and one foil a scene and kind: the chains serve hierarchy, foils and figures."""
    pairs, model, seen = Scenes("val", 20), copy.model(), []
    original = DualEncoder.embed_texts
    monkeypatch.setattr(
        DualEncoder, "embed_texts", lambda self, texts, **kwargs: seen.extend(texts) or original(self, texts, **kwargs)
    )
    score(copy, [pairs], model=model, progress=False)
    phrases, _ = chains_of(pairs, range(20))
    assert seen[: len(phrases)] == phrases
    true = {pairs.chain(row)[-1] for row in range(20)}
    assert not true & set(seen[len(phrases) :])  # what follows are foils, and none of them is true


def test_the_checkpoint_is_loaded_where_no_model_is_given(copy):
    sets = [Scenes("val", 10), Scenes("zeroshot", 10)]
    metrics = score(copy, sets, progress=False)
    assert metrics == pytest.approx(score(copy, sets, model=copy.model(), progress=False))
    assert metrics["average"] == scores.average(metrics) and "top1" in metrics
