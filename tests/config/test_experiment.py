"""Experiments: every setting is checked, kept as it is, and comes back from JSON."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle

import pytest

from clipedu.config.experiment import Experiment
from clipedu.config.presets import PRESETS
from clipedu.data.augment import AUGMENTATIONS
from clipedu.data.shards.images import RESIZE
from clipedu.optim.schedule import SCHEDULES
from clipedu.utils.errors import ClipeduError

FIELDS = {spec.name: spec for spec in dataclasses.fields(Experiment)}
KINDS = {"str": "a string", "int": 7, "float": 0.5, "bool": True, "dict[str, Any]": {"a": 1}}


def kind_of(spec) -> tuple[str, bool]:
    return str(spec.type).partition(" | ")[0], str(spec.type).endswith(" | None")


def message_of(**settings) -> str:
    with pytest.raises(ClipeduError) as caught:
        Experiment(**settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WRONG_TYPES = [
    (name, value)
    for name, spec in FIELDS.items()
    for kind, value in KINDS.items()
    if kind != kind_of(spec)[0] and (kind, kind_of(spec)[0]) not in (("int", "float"), ("str", "list[str]"))
]


@pytest.mark.parametrize(("name", "value"), WRONG_TYPES)
def test_a_value_of_the_wrong_type_is_told_with_its_field(name, value):
    message = message_of(**{name: value})
    assert f"{name}={value!r}" in message and "must be" in message


@pytest.mark.parametrize("name", FIELDS)
def test_none_only_where_it_means_something(name):
    if kind_of(FIELDS[name])[1]:
        assert getattr(Experiment(**{name: None}), name) is None
    else:
        assert f"{name}=None must be a" in message_of(**{name: None})


BOUNDED = [
    (name, word)
    for name, spec in FIELDS.items()
    for word in ("at_least", "at_most", "above", "below")
    if word in spec.metadata
]


@pytest.mark.parametrize(("name", "word"), BOUNDED)
def test_bounds_hold_exactly(name, word):
    bound = FIELDS[name].metadata[word]
    step = 1 if kind_of(FIELDS[name])[0] == "int" else 1e-9
    beyond = {"at_least": bound - step, "at_most": bound + step, "above": bound, "below": bound}[word]
    inside = {"at_least": bound, "at_most": bound, "above": bound + step, "below": bound - step}[word]
    room = {"train_size": 10**9} if name != "train_size" else {"batch_size": 2}
    assert getattr(Experiment(**{**room, name: inside}), name) == inside
    message = message_of(**{**room, name: beyond})
    assert f"{name}={beyond!r}" in message and f"{word.replace('_', ' ')} {bound}" in message


def test_all_numbers_that_must_be_bounded_are():
    assert {name for name, _ in BOUNDED} == {
        name for name, spec in FIELDS.items() if kind_of(spec)[0] in ("int", "float")
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [name for name, spec in FIELDS.items() if kind_of(spec)[0] == "float"])
def test_numbers_are_finite(name, value):
    assert f"{name}={value!r} must be a finite number" == message_of(**{name: value})


@pytest.mark.parametrize("name", [name for name, spec in FIELDS.items() if "choices" in spec.metadata])
def test_choices_are_told(name):
    choices = FIELDS[name].metadata["choices"]
    for choice in choices:
        assert getattr(Experiment(**{name: choice}), name) == ([choice] if name in ("track", "foil_kinds") else choice)
    message = message_of(**{name: choices[-1] + "x"})
    assert message.startswith(f"unknown {name} '{choices[-1]}x'. Did you mean {choices[-1]!r}?")
    assert message.endswith(", ".join(choices))


@pytest.mark.parametrize("name", [name for name, spec in FIELDS.items() if kind_of(spec)[0] == "str"])
def test_an_empty_text_is_no_name(name):
    assert f"{name}='' must not be empty" == message_of(**{name: ""})


@pytest.mark.parametrize(
    ("name", "key"),
    [("loss_options", "temperature"), ("loss_options", "num_samples"), ("optimizer_options", "lr"),
     ("optimizer_options", "weight_decay"), ("image_options", "pretrained"), ("text_options", "vocab_size")],
)  # fmt: skip
def test_options_can_not_repeat_what_the_experiment_gives(name, key):
    message = message_of(**{name: {key: 1}})
    assert message.startswith(f"{name}=") and f"'{key}' cannot be among them" in message


def test_options_are_what_json_can_hold():
    assert "loss_options" in message_of(loss_options={"a": object()})
    assert "optimizer_options" in message_of(optimizer_options={"eps": math.nan})
    assert "image_options" in message_of(image_options={1: 2})
    assert Experiment(optimizer_options={"betas": (0.9, 0.98)}).optimizer_options == {"betas": [0.9, 0.98]}


def test_options_are_copied():
    mine = {"gamma": [0.5]}
    one, two = Experiment(loss_options=mine), Experiment(loss_options=mine)
    mine["gamma"].append(1)
    one.loss_options["gamma"].append(2)
    assert two.loss_options == {"gamma": [0.5]} and Experiment().loss_options == {}
    other = one.replace(seed=1)
    one.loss_options["gamma"].append(3)
    assert other.loss_options == {"gamma": [0.5, 2]}


def test_an_unknown_field_is_told_whichever_way_it_comes():
    for make in (lambda: Experiment(batchsize=3), lambda: Experiment.preset("tiny", batchsize=3),
                 lambda: Experiment().replace(batchsize=3), lambda: Experiment.from_json('{"batchsize": 3}')):  # fmt: skip
        with pytest.raises(ClipeduError, match="unknown field of Experiment 'batchsize'. Did you mean 'batch_size'?"):
            make()
    with pytest.raises(TypeError):
        Experiment("scenes")  # thirty settings without their names say nothing


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Experiment().lr = 1.0


def test_one_and_one_point_zero_are_the_same_experiment():
    whole = Experiment(lr=1, weight_decay=0, clip_grad=1)
    assert whole == Experiment(lr=1.0, weight_decay=0.0, clip_grad=1.0)
    assert [type(getattr(whole, name)) for name in ("lr", "weight_decay", "clip_grad")] == [float] * 3
    assert whole.to_json() == Experiment(lr=1.0, weight_decay=0.0, clip_grad=1.0).to_json()


def odd() -> Experiment:
    return Experiment(
        data="a folder/ü", train_size=None, lr=1 / 30, optimizer_options={"betas": (0.9, 0.98), "deep": {"x": None}},
        text_frozen=True, clip_grad=1, temperature=None, seed=2**63 - 1,
    )  # fmt: skip


@pytest.mark.parametrize("experiment", [*map(Experiment.preset, PRESETS), odd()], ids=[*PRESETS, "odd"])
def test_there_and_back(experiment):
    assert Experiment.from_json(experiment.to_json()) == experiment
    assert set(json.loads(experiment.to_json())) == {*FIELDS, "format"}
    assert (
        pickle.loads(pickle.dumps(experiment))
        == copy.deepcopy(experiment)
        == dataclasses.replace(experiment)
        == experiment
    )
    assert experiment.replace() == experiment != experiment.replace(seed=5)


def test_replace_checks_again():
    experiment = Experiment(train_size=1000)
    with pytest.raises(ClipeduError, match="batch_size=2000 is larger than the data: train_size=1000"):
        experiment.replace(batch_size=2000)
    assert experiment.replace(batch_size=500).batch_size == 500 and experiment.batch_size == 128


def test_changed_is_what_differs():
    assert Experiment().changed() == {}
    assert Experiment(lr=1, seed=3).changed() == {"lr": 1.0, "seed": 3}
    for name, preset in PRESETS.items():
        assert Experiment.preset(name).changed(name) == {}
        assert Experiment.preset(name).changed() == {
            key: value for key, value in preset.settings.items() if value != getattr(Experiment(), key)
        }
        assert Experiment.preset("laptop", **Experiment.preset(name).changed()) == Experiment.preset(name)


def test_every_field_says_what_it_is():
    for name, spec in FIELDS.items():
        assert len(spec.metadata["text"]) > 8, name


@pytest.mark.parametrize("name, there", [("augment", AUGMENTATIONS), ("resize", RESIZE), ("schedule", SCHEDULES)])
def test_choices_are_those_of_the_package_that_takes_them(name, there):
    """Written out in the experiment, because config imports neither data nor optim."""
    assert FIELDS[name].metadata["choices"] == there


@pytest.mark.parametrize("name", ["embedding_dim", "train_size", "batch_size", "epochs", "norms_every"])
def test_sizes_that_nothing_can_count_are_refused(name):
    assert message_of(**{name: 10**20}) == f"{name}={10**20} must be at most {2**40}"
