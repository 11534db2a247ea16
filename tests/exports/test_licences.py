"""Licences: what a user says, and what the data and the model before say."""

import dataclasses

import pytest

from clipedu import ClipeduError
from clipedu.exports.licences import base_model, licence_entries, licence_words, training_manifest
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
    assert training_manifest(one) is None and base_model(one) is None
    assert licence_words(one, "mit")[0] == "Whoever exported this model put its weights under: mit."
    (unknown, drawn) = licence_words(one, None)
    assert "No licence was given" in unknown and "drawn by clipedu" in drawn
    own = with_settings(one, data="flickr8k", image_weights="pretrained")
    assert training_manifest(own).hub == "clip-benchmark/wds_flickr8k"
    words = " ".join(licence_words(own, None))
    assert "non-commercial" in words and "pretrained weights of test_resnet" in words and "drawn" not in words
    assert training_manifest(with_settings(one, data=str(tmp_path))) is None
    assert write_birds(tmp_path / "birds.toml") and "be kind to birds" in " ".join(
        licence_words(with_settings(one, data=str(tmp_path / "birds.toml")), None)
    )


def test_a_released_model_has_terms_of_its_own(released):
    one = open_release(released("clip")[0])
    assert base_model(one) == "clip" and "They were made from clip, whose" in " ".join(licence_words(one, None))
