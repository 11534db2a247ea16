"""Model cards: what the hub reads, and what a person reads."""

import dataclasses

import pytest
from huggingface_hub import ModelCard

from clipedu.exports.card import model_card
from clipedu.exports.release import open_release
from clipedu.workflow.opening import Scale
from tests.exports.test_licences import with_settings
from tests.helpers.releases import release

pytestmark = pytest.mark.xdist_group("exports")


def test_metadata_of_a_run(trained):
    card = ModelCard(model_card(open_release(trained.folder), "transformers", "some code", "apache-2.0"))
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == (
        "apache-2.0",
        "transformers",
        "zero-shot-image-classification",
    )
    assert (
        data.tags == ["clipedu", "clip"]
        and data.model_name == "mine"
        and data.base_model is None
        and data.datasets is None
    )
    found = {result.metric_type: result for result in data.eval_results}
    assert found["tr@1"].metric_value == pytest.approx(trained.metrics["tr@1"], abs=1e-4)
    assert (found["top1"].dataset_name, found["top1"].dataset_split, found["ir@5"].dataset_split) == (
        "scenes",
        "zeroshot",
        "val",
    )
    assert set(data.metrics) == set(found) and len(found) == 8
    assert "some code" in card.text and "after step 2" in card.text and "| TR@1 |" in card.text
    assert (
        "32 of scenes" in card.text and "| epochs | `1` |" in card.text and "knows nothing of photographs" in card.text
    )


def test_a_card_of_other_weights_claims_no_scores(trained):
    for options in ({"checkpoint": "best"}, {"averaged": True}):
        card = ModelCard(model_card(open_release(trained.folder, **options), "onnx", "", None))
        assert card.data.eval_results is None and "None were computed for these weights" in card.text
        assert card.data.license == "unknown"


def test_a_tower_claims_neither_scores_nor_texts(trained):
    card = ModelCard(model_card(open_release(trained.folder), "timm", "", "mit", tower="Out come features."))
    assert card.data.eval_results is None and card.data.pipeline_tag == "image-feature-extraction"
    assert "Out come features." in card.text and "tokens" not in card.text and "## Scores" not in card.text


def test_what_a_run_was_made_from(trained, tmp_path):
    one = with_settings(
        open_release(trained.folder),
        data="flickr8k",
        image_weights=str(tmp_path / "mine.safetensors"),
        image_frozen=True,
    )
    card = ModelCard(model_card(one, "onnx", "", None))
    assert card.data.datasets == ["clip-benchmark/wds_flickr8k"]
    assert "began with weights (mine.safetensors), and was frozen" in card.text
    assert str(tmp_path) not in card.text, "a path of this machine"


def test_geometry_and_scale_are_told():
    one = release(geometry="lorentz", clean=True)
    card = ModelCard(model_card(one, "transformers", "", None))
    assert "lorentz" in card.data.tags and "Curvature: c = 1 " in card.text and "arXiv:2304.09172" in card.text
    assert (
        "12.5 times the similarity (learned temperature 0.08)" in card.text
        and "lower case, no punctuation" in card.text
    )
    assert "has no temperature" in model_card(dataclasses.replace(one, scale=None), "transformers", "", None)


def test_a_released_model(released):
    one = dataclasses.replace(open_release(released("siglip")[0]), name="hf:owner/siglip")
    card = ModelCard(model_card(one, "onnx", "", None))
    assert card.data.base_model == "owner/siglip" and card.data.eval_results is None and "plus the bias" in card.text
    local = ModelCard(model_card(dataclasses.replace(one, name="/models/mine"), "onnx", "", None))
    assert local.data.base_model is None and "# mine\n" in local.text and "/models" not in local.text
    near = ModelCard(model_card(dataclasses.replace(one, name="models/mine"), "onnx", "", None))
    assert near.data.base_model is None  # a folder, and no repository of somebody's


def test_numbers_have_the_digits_that_are_meant(trained):
    """A temperature that began as float32 has no more."""
    one = with_settings(open_release(trained.folder), temperature=0.07000000016601346, lr=0.00123456)
    one = dataclasses.replace(one, scale=Scale(1 / 0.07000000016601346, -9.123456789, learned=True))
    text = model_card(one, "onnx", "", None)
    assert "| temperature | `0.07` |" in text and "| lr | `0.00123456` |" in text
    assert "14.29 times the similarity (learned temperature 0.07), plus the bias -9.123." in text
