"""Paths of a run hold in any working directory, and are found again after a move."""

import json
import shutil

import pytest

from clipedu.config.experiment import Experiment
from clipedu.runs.folders import load_run, new_run
from clipedu.runs.paths import located, with_absolute_paths
from tests.helpers.shard_maker import make_shards


@pytest.fixture
def work(tmp_path, monkeypatch, home):
    """A working directory with shards, weights and a text model's folder; and a set under CLIPEDU_DATA."""
    make_shards(tmp_path / "work" / "own", 4)
    make_shards(home / "named", 4)
    (tmp_path / "work" / "w.safetensors").write_bytes(b"")
    (tmp_path / "work" / "model").mkdir()
    (tmp_path / "work" / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "work"))
    return tmp_path / "work"


def test_names_stay_names_and_paths_become_absolute(work):
    names = Experiment(data="named", eval_data="scenes", zeroshot_data="no-such-set", text_encoder="bert")
    assert with_absolute_paths(names) == (names, {})
    given = {
        "data": "own",
        "eval_data": "./sub/../own",
        "zeroshot_data": "~/own",
        "image_weights": "w.safetensors",
        "text_weights": "~/w.safetensors",
        "text_encoder": "model",
    }
    absolute, kept = with_absolute_paths(Experiment(**given))
    assert kept == given
    expected = dict.fromkeys(("data", "eval_data", "zeroshot_data"), str(work / "own"))
    expected |= dict.fromkeys(("image_weights", "text_weights"), str(work / "w.safetensors"))
    assert {name: getattr(absolute, name) for name in given} == {**expected, "text_encoder": str(work / "model")}
    assert with_absolute_paths(absolute) == (absolute, {})


def test_the_command_repeats_what_was_given(work):
    experiment, given = with_absolute_paths(Experiment(data="own", lr=0.5))
    run = new_run(experiment, "runs/one", given_paths=given)
    assert load_run("runs/one").experiment.data == str(work / "own")
    assert load_run("runs/one").command == run.command == "clipedu train --data own --lr 0.5"


def test_data_that_were_moved_with_the_run_are_found(work, tmp_path, monkeypatch, caplog):
    experiment, given = with_absolute_paths(Experiment(data="own", image_weights="w.safetensors"))
    new_run(experiment, "runs/one", given_paths=given)
    assert located(load_run("runs/one")) == experiment and not caplog.records
    shutil.move(work, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    found = located(load_run("moved/runs/one"))
    assert (found.data, found.image_weights) == (str(tmp_path / "moved/own"), str(tmp_path / "moved/w.safetensors"))
    assert f"data='{work / 'own'}' of moved/runs/one is not there: taking {tmp_path / 'moved/own'}" in caplog.text
    shutil.move(tmp_path / "moved/runs/one", tmp_path / "one")
    monkeypatch.chdir(tmp_path / "moved")
    assert located(load_run(tmp_path / "one")).data == str(tmp_path / "moved/own"), "as given, from here"
    monkeypatch.chdir(tmp_path)
    assert located(load_run(tmp_path / "one")).data == str(work / "own"), "found nowhere: as it was"


def test_a_relative_path_of_an_older_version(work, tmp_path, monkeypatch, caplog):
    new_run(Experiment(data="own"), "runs/deep/one")
    assert located(load_run("runs/deep/one")).data == "own" and not caplog.records
    monkeypatch.chdir(tmp_path)
    assert located(load_run(work / "runs/deep/one")).data == str(work / "own")
    assert "data='own' of" in caplog.text


def test_paths_json_is_only_where_there_are_paths(work):
    new_run(Experiment(), "runs/two")
    assert not (work / "runs/two/paths.json").exists()
    (work / "runs/two/paths.json").write_text(json.dumps({}))
    assert load_run("runs/two").command == "clipedu train"
