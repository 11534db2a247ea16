"""A run has one set of settings."""

import dataclasses

from clipedu.config.experiment import HOW
from clipedu.runs.settings import check_going_on, check_settings, differing, differing_results, listed
from tests.helpers.errors import message_of
from tests.runs.example_run import EX


def test_equal_settings_and_those_of_older_checkpoints(tmp_path):
    assert differing(EX, {}) == differing(EX, {"experiment": dataclasses.asdict(EX)}) == {}
    before = dataclasses.asdict(EX)
    del before["accumulate"], before["text_options"]  # fields that a newer version has added
    assert differing(EX.replace(text_options={}), {"experiment": before}) == {}
    assert differing(EX, {"experiment": before}) == {"text_options": ({}, EX.text_options)}


def test_of_an_older_run_the_seed_drew_the_data():
    before = dataclasses.asdict(EX.replace(seed=7))
    del before["data_seed"]
    assert differing(EX.replace(seed=7, data_seed=7), {"experiment": before}) == {}
    assert differing(EX.replace(seed=7), {"experiment": before}) == {"data_seed": (7, 0)}


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


def test_what_changes_no_result_is_one_set_of_settings(tmp_path):
    how = EX.replace(norms_every=3, checkpoint_every=7, keep_checkpoints=1, evaluate_every="1epoch", track="trackio")
    assert check_settings(tmp_path, how, {"experiment": dataclasses.asdict(EX)}).keys() == set(HOW)
    assert differing_results(EX, how) == {}
    assert differing_results(EX, how.replace(device="cpu", ema_decay=0.9)).keys() == {"device", "ema_decay"}
    check_going_on({name: getattr(how, name) for name in (*HOW, "device")})
    message = message_of(check_going_on, {"device": "cpu", "seed": 7})
    assert "seed=7 cannot be changed when a run goes on" in message and "checkpoint_every" in message
