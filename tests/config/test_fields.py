"""Makers of fields: defaults of their own, and what is allowed in the metadata."""

from __future__ import annotations

from dataclasses import dataclass, fields

import pytest

from clipedu.config.experiment import Experiment
from clipedu.config.fields import names, options, setting
from clipedu.utils.errors import ClipeduError


@dataclass
class Small:
    size: int = setting(3, "how many", at_least=1, how=True)
    more: dict = options("further arguments", taken=("size",))
    what: list = names("any names")
    which: list = names("some names", ("a", "b"), how=True)
    given: list = names("names", ("a", "b"), default=("b",))


def test_what_a_field_keeps():
    marks = {spec.name: dict(spec.metadata) for spec in fields(Small)}
    assert marks == {
        "size": {"text": "how many", "at_least": 1, "how": True},
        "more": {"text": "further arguments", "taken": ("size",)},
        "what": {"text": "any names"},
        "which": {"text": "some names", "choices": ("a", "b"), "how": True},
        "given": {"text": "names", "choices": ("a", "b")},
    }
    assert Small() == Small(3, {}, [], [], ["b"]) and Small().given is not Small().given
    assert Small().more is not Small().more and Small().what is not Small().what


def message_of(**settings) -> str:
    with pytest.raises(ClipeduError) as caught:
        Experiment(**settings)
    return str(caught.value)


def test_names_are_a_list_of_each_once():
    ex = Experiment(track=("trackio", "tensorboard"))
    assert ex.track == ["trackio", "tensorboard"] and Experiment.from_json(ex.to_json()) == ex
    assert "'trackio' is given twice" in message_of(track=["trackio", "tensorboard", "trackio"])
    for wrong in (["trackio", 3], [["trackio"]], [None], "", ["none"]):
        assert message_of(track=wrong).startswith("unknown track") and "Allowed: tensorboard" in message_of(track=wrong)
    given = ["trackio"]
    ex = Experiment(track=given)
    given.append("wandb")
    assert ex.track == ["trackio"] and Experiment().track is not Experiment().track
