"""Licences: what a user says, and what the data and the model before say."""

import dataclasses

import pytest

from clipedu import ClipeduError
from clipedu.exports import licences
from clipedu.exports.licences import (
    base_model,
    chain,
    hub_repositories,
    licence_entries,
    licence_words,
    training_manifests,
)
from clipedu.exports.release import Release, open_release
from tests.helpers.fetching import write_birds

pytestmark = pytest.mark.xdist_group("exports")


@pytest.mark.parametrize(
    ("given", "entries"),
    [
        (None, {"license": "unknown"}),
        ("MIT", {"license": "mit"}),
        (" cc-by-nc-4.0 ", {"license": "cc-by-nc-4.0"}),
        ("My lab's own", {"license": "other", "license_name": "My lab's own"}),
    ],
)
def test_entries(given, entries):
    assert licence_entries(given) == entries


@pytest.mark.parametrize("given", ["", "  ", "a\nb", "x" * 101])
def test_no_name_of_a_licence(given):
    with pytest.raises(ClipeduError, match="is no name of a licence: give one such as mit"):
        licence_entries(given)


def with_settings(one: Release, **changes) -> Release:
    """The same with another experiment in its run."""
    run = dataclasses.replace(one.run, experiment=one.run.experiment.replace(**changes))
    return dataclasses.replace(one, run=run)


def test_words(trained, tmp_path):
    one = open_release(trained.folder)
    assert training_manifests(one) == [] and base_model(one) is None
    assert licence_words(one, "mit")[0] == "Whoever exported this model put its weights under: mit."
    (unknown, drawn) = licence_words(one, None)
    assert "No licence was given" in unknown and "drawn by clipedu" in drawn
    own = with_settings(one, data="flickr8k", image_weights="pretrained")
    assert training_manifests(own)[0].hub == "clip-benchmark/wds_flickr8k"
    words = " ".join(licence_words(own, None))
    assert "non-commercial" in words and "pretrained weights of test_resnet" in words and "drawn" not in words
    assert training_manifests(with_settings(one, data=str(tmp_path))) == []
    assert write_birds(tmp_path / "birds.toml") and "be kind to birds" in " ".join(
        licence_words(with_settings(one, data=str(tmp_path / "birds.toml")), None)
    )


def test_a_released_model_has_terms_of_its_own(released):
    one = open_release(released("clip")[0])
    assert base_model(one) == "clip" and "They were made from clip, whose" in " ".join(licence_words(one, None))


@pytest.mark.parametrize(
    ("name", "weights", "repositories"),
    [
        ("hf:owner/siglip", None, ["owner/siglip"]),
        ("open_clip:hf-hub:owner/siglip", None, ["owner/siglip"]),
        ("open_clip:hf-hub:owner/siglip", "random", []),
        ("hf:owner/siglip", "/mine.safetensors", []),
        ("open_clip:ViT-B-32", "laion2b_s34b_b79k", ["laion/CLIP-ViT-B-32-laion2B-s34B-b79K"]),
        ("open_clip:ViT-B-32", "random", []),
        ("open_clip:ViT-B-16-SigLIP2", None, ["timm/ViT-B-16-SigLIP2"]),  # whose only weights these are
        ("owner/siglip", None, []),  # a folder
    ],
)
def test_where_on_the_hub_it_comes_from(name, weights, repositories, trained):
    one = open_release(trained.folder)
    alone = dataclasses.replace(one, run=None, name=name, pretrained=weights)
    settings = {"start": name, "start_weights": weights, "image_weights": "random"}
    assert hub_repositories(alone) == hub_repositories(with_settings(one, **settings)) == repositories


def test_pretrained_encoders_are_named(trained):
    one = with_settings(open_release(trained.folder), image_encoder="resnet50", image_weights="pretrained")
    assert hub_repositories(one) == ["timm/resnet50.a1_in1k"]
    both = with_settings(one, text_encoder="distilbert-base-uncased", text_weights="pretrained")
    assert hub_repositories(both) == ["timm/resnet50.a1_in1k", "distilbert-base-uncased"]


def test_a_run_that_began_with_a_run(trained, monkeypatch):
    """What that one was made from counts, too: data and released model."""
    one = with_settings(open_release(trained.folder), start="runs/a")
    runs = {"runs/a": with_settings(one, data="flickr8k", start="hf:owner/clip").run}
    monkeypatch.setattr(licences, "is_run", lambda name: name in runs)
    monkeypatch.setattr(licences, "load_run", lambda folder, scores: runs[str(folder)])
    assert [ex.data for ex in chain(one)] == ["scenes", "flickr8k"] and hub_repositories(one) == ["owner/clip"]
    words = " ".join(licence_words(one, None))
    assert "Flickr8k" in words and "made from hf:owner/clip, whose" in words and "drawn by clipedu" not in words
    runs["runs/a"] = one.run  # a run that lies now where the other was, and names itself
    assert len(chain(one)) == 2
    runs.clear()
    assert len(chain(one)) == 1 and hub_repositories(one) == []
