"""A run has one set of settings."""

import dataclasses

from clipedu.runs.settings import check_settings, differing, listed
from tests.helpers.errors import message_of
from tests.runs.example_run import EX


def test_equal_settings_and_those_of_older_checkpoints(tmp_path):
    assert differing(EX, {}) == differing(EX, {"experiment": dataclasses.asdict(EX)}) == {}
    before = dataclasses.asdict(EX)
    del before["accumulate"], before["text_options"]  # fields that a newer version has added
    assert differing(EX.replace(text_options={}), {"experiment": before}) == {}
    assert differing(EX, {"experiment": before}) == {"text_options": ({}, EX.text_options)}


def test_what_may_differ_and_what_may_not(tmp_path):
    facts = {"experiment": dataclasses.asdict(EX)}
    free = EX.replace(norms_every=3, device="cpu", epochs=9)
    assert check_settings(tmp_path, free, facts, allowed=("epochs",)) == {
        "epochs": (2, 9),
        "norms_every": (10, 3),
        "device": ("auto", "cpu"),
    }
    message = message_of(check_settings, tmp_path, free.replace(lr=0.5), facts)
    assert f"{tmp_path}/experiment.json is not what the run was trained with: " in message
    assert "lr was 0.003 and is now 0.5; epochs was 2 and is now 9. Put the old values back" in message
    assert listed({"lr": (1, 2)}) == "lr was 1 and is now 2"
