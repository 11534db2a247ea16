"""Scoring a run: its metrics, and what is kept for its figures."""

import shutil

import pytest
import torch

from clipedu import load_run, resume
from clipedu.cli.parser import main
from clipedu.data.scenes.dataset import Scenes
from clipedu.evaluation import scoring as scores
from clipedu.evaluation.embedding_space import chains_of
from clipedu.inference.embed import embed_pairs, embed_phrases
from clipedu.models.dual_encoder import DualEncoder
from clipedu.workflow import scoring
from clipedu.workflow.scoring import score
from tests.helpers.small_runs import QUIET, assert_same


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


@pytest.fixture
def damaged(unreported):
    """A trained run with checkpoints after steps 4 and 8, the later one damaged."""
    path = unreported / "checkpoint" / "step-00000008" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("others", [False, True])
def test_where_the_last_checkpoint_is_damaged_the_one_before_it_is_scored_and_said_so(
    damaged, whole, others, caplog, capsys
):
    folder = damaged.parents[2]
    words = ["evaluate", str(folder)]
    if others:
        words += ["--eval-data", whole.experiment.data]
    assert main(words) == 0
    assert f"{damaged} cannot be read" in caplog.text and "step-00000004" in caplog.text
    assert f"clipedu train --resume {folder}" in caplog.text
    said = "these are the scores after step 4 of 8: the last checkpoint is damaged"
    assert said in capsys.readouterr().out
    metrics = load_run(folder).metrics
    if others:
        assert metrics == whole.metrics, "these are only printed"
    else:
        assert (metrics["scored_step"], metrics["last_step"]) == (4, 8) and said[1:] in (
            folder / "report.html"
        ).read_text()
        assert damaged.exists(), "nothing is set aside before training goes on"
        assert_same(resume(folder, **QUIET), whole)
        assert "scored_step" not in load_run(folder).metrics


@pytest.mark.parametrize("name", ["checkpoint.json", "model.safetensors"])
def test_a_file_that_is_missing_is_damage_too(unreported, caplog, name):
    path = unreported / "checkpoint" / "step-00000008" / name
    path.unlink() if name.endswith("tensors") else path.write_text("{}")
    run = load_run(unreported)
    assert run.choose_sound_checkpoint() == {"scored_step": 4, "last_step": 8}
    assert run.checkpoint().name == "step-00000004" and str(path) in caplog.text


def test_a_sound_last_checkpoint_is_scored_and_where_all_are_damaged_each_is_left(unreported, caplog, capsys):
    state = unreported / "checkpoint" / "step-00000008" / "state.pt"
    state.write_bytes(b"x")  # only training goes on from it
    run = load_run(unreported)
    assert run.choose_sound_checkpoint() == {} and run.checkpoint().name == "step-00000008" and not caplog.text
    for path in (unreported / "checkpoint").glob("*/model.safetensors"):
        path.write_bytes(b"x")
    assert main(["evaluate", str(unreported)]) == 2
    error = capsys.readouterr().err
    assert "step-00000008/model.safetensors cannot be read" in error and "No other checkpoint" in error
