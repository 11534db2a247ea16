"""The grid: all cells, none twice, what was stopped goes on, what failed is kept as such."""

import itertools
import json
import signal
from dataclasses import replace

import pytest

from clipedu import ClipeduError, Experiment
from clipedu.runs.folders import load_run
from clipedu.studies.grid import COURSE_LOSSES, COURSE_OPTIMIZERS, cells, grid_baseline, run_grid
from clipedu.training.trainer import Trainer


@pytest.fixture
def small(quick):
    return quick.replace(train_size=32, epochs=1)


def test_cells_are_the_courses_five_by_three():
    experiments = cells(Experiment(), per_optimizer={"sgd": {"lr": 0.5}})
    assert len(experiments) == 15 and list(experiments)[0] == "adamw-sogclr"
    assert {(e.optimizer, e.loss) for e in experiments.values()} == set(
        itertools.product(COURSE_OPTIMIZERS, COURSE_LOSSES)
    )
    assert {e.lr for e in experiments.values() if e.optimizer == "sgd"} == {0.5}
    assert {e.lr for e in experiments.values() if e.optimizer != "sgd"} == {Experiment().lr}


def test_unknown_names_are_told_before_anything_runs():
    with pytest.raises(ClipeduError, match="unknown loss 'simclr'"):
        cells(Experiment(), losses=["clip", "simclr"])
    with pytest.raises(ClipeduError, match="unknown optimizer 'adamx'"):
        cells(Experiment(), optimizers=["adamx"])


def test_a_finished_cell_is_never_run_twice(small, tmp_path, monkeypatch):
    experiments = cells(small, ["clip", "vicreg"], ["adamw"])
    first = list(run_grid(experiments, tmp_path, progress=False))
    assert [run.name for run in first] == ["adamw-clip", "adamw-vicreg"] and all(run.metrics for run in first)
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("a finished cell was trained again"))
    again = list(run_grid(experiments, tmp_path, progress=False))
    assert [run.metrics for run in again] == [run.metrics for run in first]


def test_ctrl_c_keeps_what_is_done_and_the_same_call_goes_on(small, tmp_path, monkeypatch):
    experiments = cells(small, ["clip", "cyclip"], ["sgd"])
    original = Trainer._train_on

    def interrupt(self, *arguments):
        if self.experiment.loss == "cyclip" and self.step == 0:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_on", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(run_grid(experiments, tmp_path, progress=False))
    monkeypatch.undo()
    assert load_run(tmp_path / "sgd-clip").status == "finished"
    assert load_run(tmp_path / "sgd-cyclip").status == "stopped"
    assert all(run.status == "finished" for run in run_grid(experiments, tmp_path, progress=False))


def test_a_cell_that_diverges_is_listed_and_the_rest_goes_on(small, tmp_path, monkeypatch):
    original = Trainer._train_on

    def diverge(self, *args):
        output = original(self, *args)
        return replace(output, total=output.total * float("nan")) if self.experiment.loss == "clip" else output

    monkeypatch.setattr(Trainer, "_train_on", diverge)
    runs = list(run_grid(cells(small, ["clip", "cyclip"], ["sgd"]), tmp_path, progress=False))
    assert [run.status for run in runs] == ["failed", "finished"] and "not finite at step 0" in runs[0].note


def test_a_folder_with_other_settings_is_refused(small, tmp_path):
    list(run_grid(cells(small, ["clip"], ["sgd"]), tmp_path, progress=False))
    with pytest.raises(ClipeduError, match=r"other settings: lr was .* and is now 0.5. Give another --folder"):
        list(run_grid(cells(small.replace(lr=0.5), ["clip"], ["sgd"]), tmp_path, progress=False))


def test_no_baseline_for_a_trained_image_encoder(small, tmp_path):
    assert grid_baseline(small, tmp_path) is None


def test_baseline_is_kept(small, tmp_path):
    frozen = small.replace(image_frozen=True, train_size=400)
    scores = grid_baseline(frozen, tmp_path)
    assert json.loads((tmp_path / "baseline.json").read_text()) == scores == grid_baseline(frozen, tmp_path)
    assert scores["retrieval_images"] == 1000 and scores["train_images"] == 400
