"""Optuna's studies: made once, of one plan, and drawn from without repeats."""

import sys
import time

import pytest

from clipedu.studies.sweep import storage
from clipedu.studies.sweep.plan import make_plan
from clipedu.studies.sweep.storage import alive, next_sampler, open_storage, open_studies, suggest
from tests.helpers.errors import message_of


def test_without_optuna_it_is_said_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert 'Install it with: pip install "clipedu[sweep]"' in message_of(open_storage, tmp_path)


def test_a_study_a_variant_and_a_grid_is_enqueued_once(optuna, tiny, tmp_path):
    plan = make_plan(
        tiny, ["lr=1e-3,1e-2", "optimizer_options.betas=[0.9,0.95],[0.9,0.99]"], ["loss=clip,cyclip"], sampler="grid"
    )
    for _ in range(2):
        studies = open_studies(open_storage(tmp_path), plan, "sweep")
        assert list(studies) == ["loss=clip", "loss=cyclip"]
        assert [len(study.trials) for study in studies.values()] == [4, 4]
    study = studies["loss=clip"]
    assert [suggest(study.ask(), plan.vary) for _ in range(4)] == plan.points()


def test_another_plan_of_that_name_is_refused(optuna, tiny, tmp_path):
    open_studies(open_storage(tmp_path), make_plan(tiny, ["lr=1e-3,1e-2"]), "sweep")
    other = make_plan(tiny.replace(epochs=3), ["lr=1e-3,1e-1"])
    message = message_of(open_studies, open_storage(tmp_path), other, "sweep")
    assert (
        "epochs was '1' and is now '3'; vary was 'lr=0.001,0.01' and is now 'lr=0.001,0.1'. Give another --folder"
        in message
    )
    open_studies(open_storage(tmp_path), other, "another")


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite:////no/such/folder/study.db", "mysql://me:secret@nowhere.invalid/x"]
)
def test_a_storage_that_cannot_be_opened(optuna, tmp_path, url):
    message = message_of(open_storage, tmp_path, url)
    assert "cannot be opened" in message and "Give a database's URL" in message and "secret" not in message


def test_a_file_that_is_no_database(optuna, tmp_path):
    (tmp_path / storage.DATABASE).write_text("no database")
    assert "study.db cannot be opened" in message_of(open_storage, tmp_path)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_sweep_that_goes_on_draws_what_it_would_have_drawn(optuna, tiny, tmp_path, sampler):
    plan = make_plan(tiny, ["lr=1e-4..1e-1:log", "batch_size=16..32", "loss=clip,cyclip"], sampler=sampler)

    def draw(folder, trials, times):
        folder.mkdir(exist_ok=True)
        found = []
        for _ in range(times):
            study = open_studies(open_storage(folder), plan, "sweep")["all"]
            for _ in range(trials):
                study.sampler = next_sampler(plan, len(study.trials))
                trial = study.ask()
                found.append(suggest(trial, plan.vary))
                study.tell(trial, found[-1]["lr"])
        return found

    whole = draw(tmp_path / "one", 12, 1)
    assert draw(tmp_path / "two", 6, 2) == whole and len({one["lr"] for one in whole}) == 12
    assert all(1e-4 <= one["lr"] <= 1e-1 and one["batch_size"] in range(16, 33) for one in whole)


def test_signs_of_life_come_while_the_block_runs(monkeypatch):
    class Storage:
        beats = 0

        def record_heartbeat(self, trial):
            self.beats += 1
            if self.beats == 2:
                raise OSError("busy")

    monkeypatch.setattr(storage, "BEAT", 0.01)
    one = Storage()
    with alive(one, 3):
        end = time.monotonic() + 5
        while one.beats < 4 and time.monotonic() < end:
            time.sleep(0.01)
    assert one.beats >= 4
    seen = one.beats
    time.sleep(0.05)
    assert one.beats == seen
