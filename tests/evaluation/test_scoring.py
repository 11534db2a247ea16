"""Scores against naive loops, at the level of chance, and at perfection."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipedu.config.experiment import Experiment
from clipedu.data.load import load_pairs
from clipedu.data.pairs import Pairs
from clipedu.data.tokenizer import train_tokenizer
from clipedu.evaluation.recall import class_prototypes
from clipedu.evaluation.scoring import average, evaluate
from clipedu.geometry import build_geometry
from clipedu.inference.embed import embed_pairs
from clipedu.models import build_model
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import NotFinite
from tests.evaluation.test_alignment import naive_shape
from tests.evaluation.test_recall import naive_retrieval


def test_the_average_is_of_the_scores_there_are():
    assert average({"tr@1": 13.18, "ir@1": 10.3, "top1": 24.55, "tr@5": 99}) == pytest.approx(16.01)
    assert average({"tr@1": 14.1, "ir@1": 10.68, "top1": 25.91}) == pytest.approx(16.8966667)
    assert average({"tr@1": 4, "ir@1": 2}) == pytest.approx(3)
    assert average({"top1": 7.5, "top5": 20}) == 7.5


def test_a_model_that_is_not_finite_is_refused(scenes):
    val, zeroshot, _ = scenes
    model = model_for(scenes)
    model.image_encoder.register_buffer("mask", torch.full((2,), -torch.inf))  # as masks are
    evaluate(model, zeroshot)
    project = model.project_image
    model.project_image = lambda features: 1e30 * project(features)  # finite, but of no finite length in float32
    for pairs in (val, zeroshot):
        with pytest.raises(NotFinite, match=r"\d+ of \d+ embeddings of the images of scenes/\w+ are not finite"):
            evaluate(model, pairs)
    with torch.no_grad():
        model.text_projection.weight[1] = torch.nan
    for call in (lambda: evaluate(model, val), lambda: model.embed_texts(["a red circle"])):
        with pytest.raises(NotFinite, match=r"the weight 'text_projection.weight' \(NaN\)"):
            call()


# the shape of the space


# models


BASE = {
    "text_options": {"dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32},
    "embedding_dim": 8,
    "text_length": 16,
}


@pytest.fixture(scope="module")
def scenes():
    val, zeroshot = load_pairs("scenes", "val", size=30), load_pairs("scenes", "zeroshot", size=25)
    return val, zeroshot, train_tokenizer([caption for row in range(30) for caption in val.captions(row)], 16)


def model_for(scenes, **changes):
    model = build_model(Experiment(**BASE, **changes), scenes[2].vocab_size)
    model.tokenizer, model.geometry = scenes[2], build_geometry("cosine", 8)
    return model


def test_a_retrieval_set_end_to_end(scenes):
    val, _, tokenizer = scenes
    model = model_for(scenes)
    got = evaluate(model, val)
    assert (got["retrieval_images"], got["retrieval_captions"]) == (30, 150)
    assert got["average"] == pytest.approx((got["tr@1"] + got["ir@1"]) / 2) and "top1" not in got
    assert 0 <= got["tr@1"] <= got["tr@5"] <= got["tr@10"] <= 100
    with torch.no_grad():
        image = model.eval().encode_image(val.pixels(torch.arange(30)))
        ids, lengths = tokenizer.encode([caption for row in range(30) for caption in val.captions(row)])
        mask = torch.arange(16) < torch.from_numpy(lengths)[:, None]
        text = model.encode_text(torch.from_numpy(ids).long(), mask)
    table = model.geometry.similarity(image, text)
    expected = naive_retrieval(table.double(), [row for row in range(30) for _ in range(5)])
    assert {key: got[key] for key in expected} == pytest.approx(expected, abs=1.0)  # rounding may swap a near tie
    assert {key: got[key] for key in ("alignment", "uniformity", "modality_gap")} == pytest.approx(
        naive_shape(image, text[::5]), rel=1e-3
    )


def test_a_labelled_set_end_to_end(scenes):
    _, zeroshot, _ = scenes
    model = model_for(scenes)
    got = evaluate(model, zeroshot)
    assert set(got) == {"top1", "top5", "zeroshot_images", "zeroshot_classes", "average"}
    assert (got["zeroshot_images"], got["zeroshot_classes"], got["average"]) == (25, 100, got["top1"])


@pytest.mark.parametrize(
    "frozen", [{"image_frozen": True}, {"text_frozen": True}, {"image_frozen": True, "text_frozen": True}]
)
def test_a_frozen_encoder_scores_the_same(scenes, frozen):
    expected, got = evaluate(model_for(scenes), scenes[0]), evaluate(model_for(scenes, **frozen), scenes[0])
    assert got == pytest.approx(expected, rel=1e-4, abs=1.0)
    again = evaluate(model_for(scenes, **frozen), scenes[0])
    assert again == got


def test_the_mode_stays_and_nothing_is_learned(scenes):
    for mode in (True, False):
        model = model_for(scenes).train(mode)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for pairs in scenes[:2]:
            evaluate(model, pairs)
        assert model.training is mode
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    embeddings = embed_pairs(model.train(), scenes[0])
    assert model.training and not embeddings.image.requires_grad and not embeddings.text.requires_grad
    assert embeddings.owner.tolist() == [row for row in range(30) for _ in range(5)]


def test_prototypes_are_the_mean_over_templates(scenes):
    model = model_for(scenes).eval()
    names, templates = ["red circle", "blue square", "green star"], ["a {}", "a photo of a {}.", "the {} there"]
    got = class_prototypes(model, names, templates)
    for name, prototype in zip(names, got, strict=True):
        rows = [model.embed_texts([template.format(name)])[0] for template in templates]
        expected = torch.stack([row / row.norm() for row in rows]).mean(0)
        torch.testing.assert_close(prototype, expected / expected.norm(), rtol=1e-4, atol=1e-5)


def test_a_long_prompt_is_cut_as_in_training_and_told(scenes, caplog):
    model = model_for(scenes)
    assert class_prototypes(model, ["red " * 40, "blue"], ["a {}"]).isfinite().all()
    assert caplog.messages == ["1 of 2 zero-shot prompts are longer than the model reads, and are cut"]


class Bare(Pairs):
    name, split, image_size = "bare", "val", 32

    def __len__(self):
        return 3

    def pixels(self, index):
        return torch.zeros(len(index), 3, 32, 32, dtype=torch.uint8)

    def captions(self, row):
        return []


def test_what_a_set_has_decides_what_is_scored(scenes):
    model = model_for(scenes)
    with pytest.raises(ClipeduError, match="bare/val has neither captions nor named classes"):
        evaluate(model, Bare())
    labelled = Bare()
    labelled.labels, labelled.class_names = torch.tensor([0, 1, 0]), ["cat", "dog"]
    got = evaluate(model, labelled)
    assert got["top1"] in (pytest.approx(200 / 3), pytest.approx(100 / 3)) and "tr@1" not in got
    both = Bare()
    both.labels, both.class_names, both.captions = labelled.labels, ["cat", "dog"], lambda row: [f"a {row}"]
    got = evaluate(model, both)
    assert got["average"] == pytest.approx((got["tr@1"] + got["ir@1"] + got["top1"]) / 3)
    both.split = "zeroshot"
    assert "tr@1" not in evaluate(model, both)


def test_a_model_that_is_not_ready(scenes):
    with pytest.raises(ClipeduError, match="no tokenizer"):
        evaluate(build_model(Experiment(**BASE), 50), scenes[0])


def test_nan_weights_are_not_scored(scenes):
    model = model_for(scenes)
    with torch.no_grad():
        model.image_projection.weight.fill_(np.nan)
    with pytest.raises(NotFinite, match=r"^the weight 'image_projection.weight' \(NaN\) of the model is not finite"):
        evaluate(model, scenes[0])
