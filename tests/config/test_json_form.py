"""Experiments in JSON: older forms are read as they were meant, newer ones are refused."""

from __future__ import annotations

import json

import pytest

from clipedu.config.experiment import Experiment
from clipedu.config.json_form import FORMAT, as_before, read_settings, write_settings
from clipedu.geometry import GEOMETRIES
from clipedu.geometry.registry import names_with_cones
from clipedu.utils.errors import ClipeduError


def test_there_and_back():
    settings = {"lr": 0.1, "data_of_another_version": [None, {"a": "ü"}], "projection_bias": False}
    assert read_settings(write_settings(settings)) == settings
    assert json.loads(write_settings(settings))["format"] == FORMAT


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"x"', '{"lr": "x"}', '{"lr": NaN}'])
def test_a_text_that_is_no_experiment(text):
    with pytest.raises(ClipeduError) as caught:
        Experiment.from_json(text)
    assert "\n" not in str(caught.value)


def test_the_form_of_a_newer_version_is_refused_and_that_of_older_ones_read():
    settings = json.loads(Experiment(lr=0.1).to_json())
    assert settings["format"] == FORMAT == 3
    del settings["format"]
    assert Experiment.from_json(json.dumps(settings)) == Experiment(lr=0.1)
    with pytest.raises(ClipeduError, match="format=4 is that of a newer clipedu; this one reads formats up to 3"):
        Experiment.from_json(json.dumps({**settings, "format": 4, "unknown": 1}))
    for wrong in (-1, "1", None, 1.5, True):
        with pytest.raises(ClipeduError, match="must be a whole number"):
            Experiment.from_json(json.dumps({**settings, "format": wrong}))


@pytest.mark.parametrize("form", [None, 1, 2])
def test_the_seed_drew_the_data_before_these_had_their_own(form):
    settings = json.loads(Experiment(seed=7).to_json())
    del settings["format"], settings["data_seed"]
    old = settings if form is None else {**settings, "format": form}
    assert Experiment.from_json(json.dumps(old)) == Experiment(seed=7, data_seed=7)
    assert Experiment.from_json(json.dumps({**old, "data_seed": 2})) == Experiment(seed=7, data_seed=2)
    assert Experiment.from_json(json.dumps({**settings, "format": 3})) == Experiment(seed=7)
    del old["seed"]
    assert Experiment.from_json(json.dumps(old)) == Experiment()


def test_lengths_at_the_start_were_not_measured_before_format_3():
    for geometry in GEOMETRIES:
        settings = json.loads(Experiment(geometry=geometry).to_json())
        assert as_before(settings) == settings and read_settings(json.dumps(settings))["geometry_options"] == {}
        del settings["data_seed"]
        options = {"start_length": None} if geometry in names_with_cones() else {}
        assert as_before(settings)["geometry_options"] == options
        settings["format"] = 2
        assert Experiment.from_json(json.dumps(settings)).geometry_options == options


@pytest.mark.parametrize("form", [None, 1])
def test_an_experiment_from_before_a_setting_is_what_it_was(form):
    """Projections had a bias before there was a choice."""
    settings = json.loads(Experiment(lr=0.1).to_json())
    del settings["format"], settings["projection_bias"]
    old = settings if form is None else {**settings, "format": form}
    assert Experiment.from_json(json.dumps(old)) == Experiment(lr=0.1, projection_bias=True)
    assert Experiment.from_json(json.dumps({**old, "projection_bias": False})) == Experiment(lr=0.1)
    assert Experiment.from_json(json.dumps({**settings, "format": 2})) == Experiment(lr=0.1)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"lr": ' + "9" * 5000 + "}", "{"])
def test_text_that_is_no_json_is_one_line(text):
    with pytest.raises(ClipeduError, match="this is not an experiment in JSON: ") as caught:
        Experiment.from_json(text)
    assert "\n" not in str(caught.value)
