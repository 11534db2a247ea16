"""Run folders: made where there was none, loaded whole or with an error that names the file, found at any depth."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from clipedu.runs.folders import (
    NotARun,
    check_free,
    check_named,
    find_runs,
    load_run,
    make_folder,
    new_run,
    new_run_folder,
)
from tests.helpers.errors import message_of
from tests.runs.example_run import EX, everything


def test_a_new_run_says_what_it_is(run):
    assert set(everything(run.folder)) == {"experiment.json", "environment.json", "status.json"}
    again = load_run(run.folder)
    assert (again.experiment, again.environment, again.status, again.note, again.seconds) == (
        EX,
        run.environment,
        "running",
        "",
        0,
    )
    assert again.metrics == {} and len(again.history) == len(again.norms) == 0 and "step" in again.history
    assert again.embeddings() is None and again.name == "run"


def test_a_default_folder_is_new_and_says_what_is_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = EX.replace(data="some where/my data:x")
    names = []
    for _ in range(3):
        folder = new_run_folder(experiment)
        assert not folder.exists() and folder.parent == Path("runs")
        new_run(experiment, folder)
        names.append(folder.name)
    assert len(set(names)) == 3
    assert all(name.split("-", 2)[2].startswith("my_data_x-cyclip-adamw") for name in names)
    assert new_run(EX).folder.parent == Path("runs")


def test_a_folder_that_is_not_free(run, tmp_path):
    assert "exists already and is not empty: give another folder, or resume" in message_of(new_run, EX, run.folder)
    (tmp_path / "file").write_text("")
    assert "exists already" in message_of(new_run, EX, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert new_run(EX, str(tmp_path / "empty")).folder == tmp_path / "empty"
    assert new_run(EX, tmp_path / "deep" / "er").status == "running"


def test_runs_are_not_kept_inside_a_run(run, tmp_path):
    (tmp_path / "link").symlink_to(run.folder)
    (released := run.folder / "released").mkdir()
    for place in (released, run.folder / "deep" / "er", tmp_path / "link" / "in"):
        assert f"{place} belongs to the run {run.folder.resolve()}: give another" in message_of(new_run, EX, place)
        assert "belongs to the run" in message_of(make_folder, place)
    assert "belongs to the run" in message_of(make_folder, run.folder)  # of a grid
    assert not (run.folder / "deep").exists()
    (tmp_path / "experiment.json").write_text("{}")  # somebody else's
    assert new_run(EX, tmp_path / "other").status == "running"


def test_what_a_killed_run_has_left_is_free_and_what_is_not_ours_is_not(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (".lock", ".lock.json", ".environment.json.1a2b3c4d.partial", "environment.json", "paths.json"):
        (folder / name).write_text("{}")
    check_free(folder)
    assert new_run(EX, folder).status == "running" and not list(folder.glob(".*.partial"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "environment.json").write_text("{}")
    assert "is not empty" in message_of(new_run, EX, other), "no lock of ours: somebody else's file"
    assert (other / "environment.json").read_text() == "{}"


def test_a_parent_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    assert "file/run cannot be made: Not a directory" in message_of(new_run, EX, tmp_path / "file" / "run")
    assert "cannot be made: File name too long" in message_of(new_run, EX, tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot be made: Permission denied" in message_of(new_run, EX, tmp_path / "run")


def test_a_folder_that_is_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message_of(load_run, "nowhere") == "nowhere does not exist. Make one with: clipedu train"
    new_run(EX, "runs/one")
    new_run(EX, "runs/grid/two")
    Path("other").mkdir()
    message = message_of(load_run, "other")
    assert "is not a run's folder: it has no experiment.json. Runs here: runs/grid/two, runs/one" in message


@pytest.mark.parametrize("name", ["experiment.json", "status.json", "metrics.json", "environment.json"])
@pytest.mark.parametrize("content", [b"", b'{"a": ', b"[1, 2]", b"\xff\xfe\x00"])
def test_a_damaged_file_is_named(run, name, content):
    run.save_metrics({"tr@1": 1})
    (run.folder / name).write_bytes(content)
    assert f"run/{name} cannot be" in message_of(load_run, run.folder)


def test_an_experiment_of_another_version_is_named(run):
    settings = json.loads(EX.to_json()) | {"no_such_setting": 1}
    (run.folder / "experiment.json").write_text(json.dumps(settings))
    assert "experiment.json cannot be used: unknown field of Experiment 'no_such_setting'" in message_of(
        load_run, run.folder
    )


def test_status_can_not_change_what_a_run_is(run):
    (run.folder / "status.json").write_text(
        '{"status": "failed", "note": "n", "seconds": 3, "folder": "/", "other": 1}'
    )
    again = load_run(run.folder)
    assert (again.folder, again.status, again.note, again.seconds) == (run.folder, "failed", "n", 3)


def test_find_runs(tmp_path):
    for name in ("b", "grid/x", "grid/y", "grid/deep/z", "a"):
        new_run(EX, tmp_path / name)
    names = [run.name for run in find_runs([tmp_path / "grid", tmp_path / "b"])]
    assert names == ["z", "x", "y", "b"]
    assert [run.name for run in find_runs([tmp_path / "b", tmp_path / "grid" / "x", tmp_path])] == [
        "b",
        "x",
        "a",
        "z",
        "y",
    ]
    (tmp_path / "grid" / "x").rename(tmp_path / "grid" / ".damaged-x")  # as a grid sets a cell aside
    assert [run.name for run in find_runs([tmp_path / "grid"])] == ["z", "y"]
    (tmp_path / "empty").mkdir()
    assert "empty is not a run's folder" in message_of(find_runs, [tmp_path / "b", tmp_path / "empty"])
    assert "nowhere does not exist" in message_of(find_runs, [str(tmp_path / "nowhere")])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("runs", "runs is no run. Runs in it: .*x: name one of them"),
        ("runs/x/checkpoint", "inside the folder of a run: name that folder, .*x$"),
        ("runs/x/checkpoint/step-00000001", "inside the folder of a run: name that folder, .*x$"),
    ],
)
def test_a_folder_above_or_inside_a_run_names_the_run(tmp_path, name, said):
    (tmp_path / "runs/x/checkpoint/step-00000001").mkdir(parents=True)
    (tmp_path / "runs/x/experiment.json").write_text("{}")
    for ask in (check_named, load_run):
        with pytest.raises(NotARun, match=said):
            ask(str(tmp_path / name))
    check_named(str(tmp_path / "runs/x"))
    check_named("open_clip:ViT-B-32")
