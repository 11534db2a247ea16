"""Who does which trial: none twice, none lost."""

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace

import pytest

from clipedu.studies.sweep import claims
from clipedu.studies.sweep.claims import counted, next_trial
from clipedu.studies.sweep.plan import make_plan
from clipedu.studies.sweep.storage import DATABASE, open_storage, open_studies

pytestmark = pytest.mark.usefixtures("optuna")


@pytest.fixture
def studies(plan, tmp_path):
    return open_studies(open_storage(tmp_path), plan, "sweep")


def take(studies, plan, folder, home="here"):
    return next_trial(studies, plan, folder, home)


def test_variants_take_turns(tiny, tmp_path):
    plan = make_plan(tiny, ["lr=1e-4..1e-2"], ["loss=clip,cyclip"], trials=2)
    studies = open_studies(open_storage(tmp_path), plan, "sweep")
    seen = []
    for _ in range(4):
        with take(studies, plan, tmp_path) as claim:
            seen.append((claim.variant, claim.number))
            claim.finish(1.0)
    assert seen == [("loss=clip", 0), ("loss=cyclip", 0), ("loss=clip", 1), ("loss=cyclip", 1)]
    with take(studies, plan, tmp_path) as claim:
        assert claim is None


def test_a_trial_in_hand_is_not_taken_and_one_that_was_left_is(studies, plan, tmp_path):
    second = []

    def other():
        with take(studies, plan, tmp_path) as claim:
            second.append(claim.number)

    with take(studies, plan, tmp_path) as first:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert (first.number, second, first.goes_on) == (0, [1], False)
    with take(studies, plan, tmp_path) as again:
        assert (again.number, again.goes_on, again.attempt, again.settings) == (0, True, 2, {"lr": 1e-3})
        again.forgive()
        assert again.attempt == 1
        again.fail("too large")
    frozen = studies["all"].trials[0]
    assert frozen.state.name == "FAIL" and frozen.user_attrs["note"] == "too large"
    with take(studies, plan, tmp_path) as last:
        assert last.number == 1


def test_a_trial_of_another_folder_is_tried_anew_when_it_shows_no_life(studies, plan, tmp_path):
    with take(studies, plan, tmp_path, "there"):
        pass
    with take(studies, plan, tmp_path) as claim:
        assert claim.number == 1  # the first one has shown life a moment ago
        claim.finish(1.0)
    with take(studies, plan, tmp_path) as claim:
        assert claim is None
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    with take(studies, plan, tmp_path) as claim:
        assert (claim.number, claim.settings) == (2, {"lr": 1e-3})
        claim.finish(2.0)
    assert [trial.number for trial in counted(studies["all"])] == [1, 2]
    with take(studies, plan, tmp_path) as claim:
        assert claim is None


def test_a_trial_that_never_began_does_not_count(studies, plan, tmp_path, monkeypatch):
    study = studies["all"]
    study.ask()  # and its process was killed at once
    monkeypatch.setattr(claims, "GRACE", -1)
    with take(studies, plan, tmp_path) as claim:
        assert claim.number == 1
        claim.finish(1.0)
    assert [trial.number for trial in counted(study)] == [1, 2]
    with take(studies, plan, tmp_path) as claim:
        assert (claim.number, claim.settings) == (2, {"lr": 1e-3})  # in place of the first


def test_more_trials_may_be_asked_for(tiny, tmp_path):
    plan = make_plan(tiny, ["lr=1e-4..1e-2"], trials=1)
    studies = open_studies(open_storage(tmp_path), plan, "sweep")
    for trials in (1, 2):
        more = replace(plan, trials=trials)
        with take(studies, more, tmp_path) as claim:
            claim.finish(1.0)
        with take(studies, more, tmp_path) as claim:
            assert claim is None
