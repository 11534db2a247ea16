"""The grid: all cells, none twice, what was stopped goes on, what failed is kept as such."""

import hashlib
import itertools
import json
import shutil
import signal
from dataclasses import replace

import pytest

from clipedu import ClipeduError, Experiment
from clipedu.data.scenes.dataset import Scenes
from clipedu.runs.folders import load_run
from clipedu.studies.grid import COURSE_LOSSES, COURSE_OPTIMIZERS, LeftOut, cells, grid_baseline, run_grid
from clipedu.training.datasets import load_data
from clipedu.training.trainer import Trainer

pytestmark = pytest.mark.xdist_group("grid")  # what is costly is made once


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


def test_cells_that_fine_tune_have_the_options_of_their_own_loss():
    base = Experiment(start="a-siglip", loss="siglip", loss_options={"bias": -10.0})
    found = cells(base, ["clip", "siglip"], ["sgd"], {"sgd": {"lr": 0.5, "clip_grad": 1.0}}, given={"lr"})
    assert found["sgd-clip"].loss_options == {} and found["sgd-clip"].learn_temperature
    assert found["sgd-siglip"] == base.replace(optimizer="sgd", clip_grad=1.0)


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
    assert scores["retrieval_images"] == 40 and scores["train_images"] == 400


def damage(path):
    """Overwrite the middle of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b'\n"\x00')


@pytest.fixture(scope="module")
def three(quick, tmp_path_factory):
    """A finished grid of three cells; for reading only."""
    experiments = cells(quick.replace(train_size=32, epochs=1), ["clip", "vicreg", "siglip"], ["adamw"])
    folder = tmp_path_factory.mktemp("grid")
    list(run_grid(experiments, folder, progress=False))
    return experiments, folder


@pytest.mark.parametrize("name", ["history.csv", "norms.csv", "layers.csv", "data.json", "embeddings.safetensors"])
def test_a_damaged_file_leaves_out_its_cell_alone(three, tmp_path, caplog, name):
    experiments, whole = three
    folder = shutil.copytree(whole, tmp_path / "grid")
    damage(folder / "adamw-clip" / name)
    before = (folder / "adamw-clip" / name).read_bytes()
    shutil.rmtree(folder / "adamw-siglip")
    done = []
    with pytest.raises(LeftOut) as caught:
        for run in run_grid(experiments, folder, progress=False):
            done.append(run)
    assert [run.name for run in done] == ["adamw-vicreg", "adamw-siglip"] and all(run.metrics for run in done)
    (line,) = caught.value.lines
    assert line.startswith(f"adamw-clip: {folder / 'adamw-clip' / name} cannot be ")
    assert f"remove {folder / 'adamw-clip'}" in line and "give the same command" in line
    assert str(caught.value).startswith("1 of 3 cells is left out, all others are done. adamw-clip: ")
    assert line in caplog.text and (folder / "adamw-clip" / name).read_bytes() == before, "nothing is lost"
    shutil.rmtree(folder / "adamw-clip")
    assert len(list(run_grid(experiments, folder, progress=False))) == 3


def test_a_stopped_cell_that_cannot_go_on_is_left_out_too(three, tmp_path):
    experiments, whole = three
    folder = shutil.copytree(whole, tmp_path / "grid")
    for name in experiments:
        (folder / name / "status.json").write_text('{"status": "stopped"}')
    damage(folder / "adamw-clip" / "norms.csv")
    for path in (folder / "adamw-vicreg" / "checkpoint").glob("*/checkpoint.json"):
        facts = json.loads(path.read_text())["content"]
        facts["experiment"]["lr"] = 0.125
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        path.write_text(json.dumps({"content": facts, "sha256": digest}))
    damage(folder / "adamw-siglip" / "data.json")  # this is made again
    done = []
    with pytest.raises(LeftOut) as caught:
        done += run_grid(experiments, folder, progress=False)
    first, second = caught.value.lines
    assert first.startswith(f"adamw-clip: {folder / 'adamw-clip' / 'norms.csv'} cannot be read")
    assert second.startswith("adamw-vicreg: ") and "lr was 0.125" in second and "remove" not in second
    assert load_run(folder / "adamw-siglip").status == "finished" and load_run(folder / "adamw-siglip").sets()


def test_a_cell_that_is_set_aside_says_which_file_is_damaged(three, tmp_path, caplog):
    experiments, whole = three
    folder = shutil.copytree(whole, tmp_path / "grid")
    damage(folder / "adamw-clip" / "metrics.json")
    assert len(list(run_grid(experiments, folder, progress=False))) == 3
    assert f"{folder / 'adamw-clip' / 'metrics.json'} cannot be read" in caplog.text and "set aside as" in caplog.text


def test_a_damaged_baseline_is_computed_again(small, tmp_path, caplog):
    frozen = small.replace(image_frozen=True, train_size=400)
    scores = grid_baseline(frozen, tmp_path)
    (tmp_path / "baseline.json").write_text("{")
    assert grid_baseline(frozen, tmp_path) == scores | {"seconds": pytest.approx(scores["seconds"], abs=60)}
    assert "baseline.json cannot be read" in caplog.text


def test_nothing_is_named_twice(small):
    with pytest.raises(ClipeduError, match="losses: 'clip' is given twice, give each value once"):
        cells(small, ["clip", "vicreg", "clip"], ["adamw"])
    with pytest.raises(ClipeduError, match="optimizers: 'adamw' is given twice"):
        cells(small, ["clip"], ["adamw", "adamw"])


def test_captions_without_words_leave_out_the_baseline_alone(small, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(Scenes, "captions", lambda self, row: ["?"])
    frozen = small.replace(image_frozen=True)
    assert grid_baseline(frozen, tmp_path, lambda: load_data(small)) is None
    assert "no baseline: the 29 captions hold no word" in caplog.text
