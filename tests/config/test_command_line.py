"""Experiments as words of a command line, and back."""

from __future__ import annotations

import argparse
import dataclasses

import pytest

from clipedu.config.command_line import add_experiment, experiment_changes, experiment_words, read_setting
from clipedu.config.experiment import Experiment
from clipedu.config.presets import PRESETS
from tests.helpers.errors import message_of

FIELDS = {spec.name: spec for spec in dataclasses.fields(Experiment)}
ROOM = {"train_size": None, "batch_size": 2}  # so that other values are allowed
ITEMS = {
    **{
        f"text_{k}": text
        for k, text in enumerate(("", "a b", "c = d", '"q"', "it's;$HOME", "-x", "ü", "[1", "{", " 1"))
    },
    **{f"word_{k}": text for k, text in enumerate(("true", "True", "none", "None", "null", "NULL", "NaN", "Infinity"))},
    **{f"digits_{k}": text for k, text in enumerate(("1", "1e5", "1E5", "-1", "1e999", "0x1", "1_000"))},
    **{f"value_{k}": value for k, value in enumerate((0, -1, 1 / 3, 1e-30, 10**30, True, False, None, [], {}))},
    "deep": {"x": [1, "1", None, {"y z": "="}]},
}
AWKWARD = {
    "str": ["-x", "--lr", "a b", "it's;$HOME", 'quo"ted', "ü", "1", "true", "=", " "],
    "int": [2, 2**31],
    "float": [1 / 3, 1e-30, 1.0, 1e-5],
    "bool": [True, False],
    "dict": [{}, ITEMS, *({name: value} for name, value in ITEMS.items())],
}


def read(words: list[str]) -> dict:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_experiment(parser)
    return experiment_changes(parser.parse_args(words))


def values_of(spec: dataclasses.Field) -> list:
    kind, optional, _ = str(spec.type).partition(" | None")
    kind = kind.partition(" | ")[0]
    rules = spec.metadata
    if kind.startswith("list"):
        known = rules.get("choices", ("any.part", "other"))
        return [[], *([name] for name in known), list(known)]
    bounds = [rules[word] for word in ("at_least", "at_most") if word in rules]
    below = rules.get("below", float("inf"))
    inside = [
        value
        for value in [*AWKWARD[kind.split("[")[0]], *bounds]
        if kind not in ("int", "float")
        or (min(bounds, default=value) <= value <= rules.get("at_most", value) and value < below)
    ]
    words = {"time": ["1min", "0.5h"], "epoch": ["1epoch"]}
    also = [*rules.get("also", ()), *(word for kind in rules.get("interval", ()) for word in words[kind])]
    return [*rules.get("choices", inside), *also, *([None] if optional else [])]


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_comes_back(name):
    values = values_of(FIELDS[name])
    assert len(values) >= 2
    for value in values:
        room = ROOM | ({"batch_size": 2 * value} if name == "accumulate" else {})
        experiment = Experiment(**{**room, name: value})
        changes = {name: getattr(experiment, name)}
        assert read(experiment_words(changes)) == changes, (value, experiment_words(changes))


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_come_back(preset):
    changes = Experiment.preset(preset).changed()
    assert read(experiment_words(changes)) == changes


def test_all_fields_at_once():
    changes = {**dataclasses.asdict(Experiment(**ROOM)), "data": "-x", "image_options": ITEMS, "loss_options": {}}
    assert read(experiment_words(changes)) == changes


def test_words_are_as_a_person_would_type_them():
    changes = {"loss": "sogclr", "lr": 1e-3, "image_frozen": True, "clip_grad": None, "train_size": 100}
    words = [
        "--loss",
        "sogclr",
        "--lr",
        "0.001",
        "--image-frozen",
        "true",
        "--clip-grad",
        "none",
        "--train-size",
        "100",
    ]
    assert experiment_words(changes) == words
    options = {"gamma": 0.5, "form": "course", "on": True, "version": "2"}
    assert experiment_words({"loss_options": options}) == [
        "--loss-options", "gamma=0.5", "form=course", "on=true", 'version="2"',
    ]  # fmt: skip
    assert experiment_words({"data": "-x"}) == ["--data=-x"] and experiment_words({}) == []


def test_what_a_person_may_also_type():
    assert read(["--clean-captions", "WEB"]) == {"clean_captions": "web"}
    assert read(["--clean-captions", "yes"]) == {"clean_captions": True}
    assert read(["--image-frozen", "YES", "--text-frozen", "0"]) == {"image_frozen": True, "text_frozen": False}
    assert read(["--loss-options", "a=TRUE", "b=None", "c=null"]) == {"loss_options": {"a": True, "b": None, "c": None}}


@pytest.mark.parametrize(
    "words, message",
    [
        (["--epochs", "x"], "'x' is not a whole number"),
        (["--lr", "fast"], "'fast' is not a number"),
        (["--image-frozen", "maybe"], "'maybe' is neither true nor false"),
        (["--clean-captions", "html"], "'html' is neither true nor false nor web"),
    ],
)
def test_values_that_cannot_be_read(words, message):
    with pytest.raises(argparse.ArgumentError, match=message):
        read(words)


@pytest.mark.parametrize("words", [["none"], [], ["dropout=0.2", "--text-options", "none"]])
def test_no_options_over_those_of_a_preset(words):
    assert read(["--text-options", *words]) == {"text_options": {}}


@pytest.mark.parametrize("item", ["gamma", "=1"])
def test_options_are_pairs(item, capsys):
    with pytest.raises((SystemExit, argparse.ArgumentError)):
        read(["--loss-options", item])
    assert f"argument --loss-options: {item!r} is not KEY=VALUE" in capsys.readouterr().err


def test_fields_left_out():
    parser = argparse.ArgumentParser()
    add_experiment(parser, without=("seed", "loss"))
    options = {word for action in parser._actions for word in action.option_strings}
    expected = {f"--{spec.metadata.get('option', name.replace('_', '-'))}" for name, spec in FIELDS.items()} - {
        "--seed",
        "--loss",
    }
    assert options - {"-h", "--help", "--preset"} == expected


@pytest.mark.parametrize(
    ("name", "word", "value"),
    [("lr", "1e-3", 1e-3), ("epochs", "3", 3), ("temperature", "none", None), ("image_frozen", "yes", True),
     ("loss_options.gamma", "0.5", 0.5), ("optimizer_options.betas", "[0.9, 0.95]", [0.9, 0.95]), ("loss_options.form", "course", "course")],
)  # fmt: skip
def test_one_setting_is_read_as_its_option_does(name, word, value):
    assert read_setting(name, word) == value


def test_what_is_told_of_one_setting():
    assert "lr=fast: 'fast' is not a number" in message_of(read_setting, "lr", "fast")
    assert "epochs=0 must be at least 1" in message_of(read_setting, "epochs", "0")
    assert "unknown setting 'lrr'. Did you mean 'lr'?" in message_of(read_setting, "lrr", "1")
