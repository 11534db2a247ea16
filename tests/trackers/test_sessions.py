"""trackio's database, and W&B's files."""

import pytest

from clipedu.trackers import open_tracker
from clipedu.trackers.base import Opening
from tests.helpers import trackers  # noqa: F401  it says where trackio keeps its database

trackio = pytest.importorskip("trackio")


def opened(folder, name, **known):
    return open_tracker("trackio", Opening(folder, name, {"lr": 1e-3}, **known))


def test_a_run_goes_on_where_its_database_ends(tmp_path, capsys):
    log = opened(tmp_path, "it's-1")
    assert log.first("history") == log.first("validation") == 0
    for step in range(3):
        log.log(step, {"train/loss": 1.0 / (step + 1)})
    log.log(3, {"validation/average": 5.0})
    log.close(well=False)
    log = opened(tmp_path, "it's-1", step=9, sent={"history": 9})  # whatever is noted: the database knows
    assert [log.first(table) for table in ("history", "validation", "final")] == [3, 4, 0]
    log.log(3, {"train/loss": 0.25})
    log.close(well=True)
    assert [run.name for run in trackio.Api().runs("clipedu")].count("it's-1") == 1
    assert not capsys.readouterr().out


def test_rows_that_trackio_loses_are_told(tmp_path, monkeypatch):
    log = opened(tmp_path, "lost-1")

    def full(*values, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log._storage, "bulk_log", full)
    log.log(0, {"train/loss": 1.0})
    with pytest.warns(UserWarning, match="No space"), pytest.raises(RuntimeError, match="kept 0 of 1 rows"):
        log.close(well=False)


def test_where_rows_go_to_other_places_the_run_notes_what_was_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_STORAGE_MODE", "jsonl")
    log = opened(tmp_path, "inbox-1", sent={"history": 7})
    assert log.first("history") == 7 and log.first("final") == 0
    log.log(7, {"train/loss": 1.0})
    log.close(well=True)
