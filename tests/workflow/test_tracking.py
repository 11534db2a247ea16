"""Trackers have what the tables have, once, whatever happened to the run."""

import csv
import json
import logging

import numpy as np
import pytest

from clipedu import fit, load_run, resume
from clipedu.trackers import TRACKERS
from clipedu.trackers.registry import Registry
from clipedu.utils.errors import ClipeduError
from clipedu.workflow import tracking
from tests.helpers.errors import message_of
from tests.helpers.processes import run_python
from tests.helpers.small_runs import QUIET, assert_same, stop_at
from tests.helpers.trackers import assert_is_log_of, of_tables, of_tensorboard, of_trackio, of_wandb

BOTH = ["tensorboard", "trackio"]


class Notes:
    """A tracker that needs no package: it keeps what it is given in a file, and can fail at a step."""

    where = "a file"
    fails_at = None

    def __init__(self, opening):
        self.path, self.opening = opening.folder / "notes.json", opening
        self.seen = json.loads(self.path.read_text()) if self.path.exists() else []

    def first(self, table):
        return self.opening.sent.get(table, 0)

    def log(self, step, values):
        if step == self.fails_at:
            raise OSError("no\nconnection")
        self.seen.append([step, dict(values)])

    def embeddings(self, image, text, captions, pixels):
        self.seen.append(
            ["embeddings", len(image), len(text), len(captions), None if pixels is None else list(pixels.shape)]
        )

    def figures(self, step, paths):
        self.seen.append(["figures", len(paths)])

    def flush(self):
        self.path.write_text(json.dumps(self.seen))

    def close(self, *, well):
        pass


@pytest.fixture
def notes(monkeypatch):
    """Let `tensorboard` be a tracker without a package."""
    registry = Registry("tracker")
    registry.add("tensorboard", Notes, "")
    monkeypatch.setattr("clipedu.trackers.registry.TRACKERS", registry)
    monkeypatch.setattr("clipedu.workflow.pipeline.check_installed", lambda names: None)
    monkeypatch.setattr("clipedu.workflow.tracking.check_installed", lambda names: None)
    monkeypatch.setattr(Notes, "fails_at", None)
    return Notes


def noted(folder):
    """As `tests.helpers.trackers.of_tensorboard`; and what else was noted."""
    found, others = {}, []
    for row in json.loads((folder / "notes.json").read_text()):
        if isinstance(row[0], str):
            others.append(row)
            continue
        for name, value in row[1].items():
            assert row[0] not in found.setdefault(name, {}), (name, row[0])
            found[name][row[0]] = value
    return found, others


def test_a_tracker_has_the_tables_and_training_does_not_know_it(small, whole, notes, tmp_path):
    run = fit(small.replace(track="tensorboard"), tmp_path / "run", **QUIET)
    found, others = noted(run.folder)
    assert_is_log_of(found, run)
    assert others == [["embeddings", 4, 4, 4, [4, 3, 16, 16]], ["figures", 0]]
    assert_same(run, whole)
    kept = json.loads((run.folder / "trackers.json").read_text())
    assert kept["name"].startswith("run-") and kept["sent"] == {
        "tensorboard": {"history": 8, "validation": 0, "final": 9}
    }
    before = (run.folder / "notes.json").read_text()
    resume(run.folder, **QUIET)  # it has all
    assert (run.folder / "notes.json").read_text() == before


def test_scores_during_training_and_averaged_weights(small, notes, tmp_path):
    ex = small.replace(track=["tensorboard"], evaluate_every=3, ema_decay=0.9, checkpoint_every=1)
    run = fit(ex, tmp_path / "run", **QUIET)
    found, _ = noted(run.folder)
    assert_is_log_of(found, run)
    assert set(found["validation/averaged/average"]) == {3, 6, 8} and "final/averaged/average" in found


def test_a_run_without_trackers_gets_a_log_when_it_goes_on(stopped, notes):
    run = resume(stopped, track="tensorboard", **QUIET)
    assert_is_log_of(noted(stopped)[0], run)
    assert run.experiment.track == ["tensorboard"] and load_run(stopped).experiment.track == ["tensorboard"]


def test_a_finished_run_gets_a_log(whole, unreported, notes):
    run = resume(unreported, track=["tensorboard"], **QUIET)
    found, others = noted(unreported)
    assert_is_log_of(found, run)
    assert others[0] == ["embeddings", 4, 4, 4, None]
    run = resume(unreported, track=["tensorboard"], progress=False)  # its report is drawn; the log is complete
    assert noted(unreported) == (found, others)


def test_no_tracker_any_more(stopped, notes):
    resume(stopped, track=[], **QUIET)
    assert not (stopped / "notes.json").exists() and not (stopped / "trackers.json").exists()


@pytest.mark.parametrize("step", [0, 5, 8])
def test_a_tracker_that_fails_ends_alone_and_is_brought_up_to_date(small, whole, notes, tmp_path, caplog, step):
    notes.fails_at = step
    with caplog.at_level(logging.WARNING, "clipedu"):
        run = fit(small.replace(track=["tensorboard"], checkpoint_every=2), tmp_path / "run", **QUIET)
    warnings = [r.getMessage() for r in caplog.records if "tensorboard" in r.getMessage()]
    assert len(warnings) == 1 and "\n" not in warnings[0]
    assert "OSError: no" in warnings[0] and f"clipedu train --resume {run.folder}" in warnings[0]
    assert_same(run, whole)
    notes.fails_at = None
    resume(run.folder, **QUIET)
    assert_is_log_of(noted(run.folder)[0], run)


def test_a_tracker_that_does_not_open(small, whole, notes, tmp_path, caplog, monkeypatch):
    def broken(name, opening):
        raise RuntimeError("no room")

    monkeypatch.setattr(tracking, "open_tracker", broken)
    run = fit(small.replace(track="tensorboard"), tmp_path / "run", **QUIET)
    assert caplog.text.count("no room") == 1
    assert_same(run, whole)


def test_rows_after_the_last_checkpoint_are_logged_when_a_run_fails(small, notes, tmp_path):
    ex = small.replace(track="tensorboard", optimizer="sgd", lr=1e30, warmup=0.5)
    with pytest.raises(ClipeduError):
        fit(ex, tmp_path / "run", **QUIET)
    assert noted(tmp_path / "run")[0] == of_tables(load_run(tmp_path / "run"))


def test_damaged_state(stopped, notes):
    (stopped / "trackers.json").write_text('{"name": 3}')
    message = message_of(resume, stopped, track="tensorboard", **QUIET)
    assert "trackers.json" in message and "Remove it" in message


def test_a_missing_package_is_named_before_anything_is_done(small, tmp_path, monkeypatch):
    for name in TRACKERS:
        monkeypatch.setitem(__import__("sys").modules, name, None)
        message = message_of(fit, small.replace(track=name), tmp_path / "run", **QUIET)
        assert f"track='{name}' needs the package {name}" in message and f"pip install {name}" in message
    assert not (tmp_path / "run").exists()


# --- the real ones ---


@pytest.fixture(scope="module")
def real(small, tmp_path_factory):
    """A run with TensorBoard and trackio, with a report."""
    for name in BOTH:
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("real") / "run"
    return fit(small.replace(track=BOTH, evaluate_every="1epoch"), folder, progress=False)


def test_tensorboard_has_the_tables(real):
    assert_is_log_of(of_tensorboard(real.folder), real, double=False)


def test_trackio_has_the_tables(real):
    assert_is_log_of(of_trackio(real.folder), real)


def test_settings_and_figures(real):
    import trackio
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (of_this,) = [run for run in trackio.Api().runs("clipedu") if run.name.startswith("run-") and run.config["seed"] == 0
                  and run.name == json.loads((real.folder / "trackers.json").read_text())["name"]]  # fmt: skip
    assert of_this.config["text_options"] == real.experiment.text_options and of_this.config["lr"] == real.experiment.lr
    assert of_this.config["_Group"] == real.folder.parent.name
    read = EventAccumulator(str(real.folder / "tensorboard")).Reload()
    figures = {path.stem for path in (real.folder / "plots").glob("*.png")}
    assert {tag.removeprefix("figures/") for tag in read.Tags()["images"]} == figures != set()
    image = read.Images("figures/loss")[0]
    assert image.encoded_image_string == (real.folder / "plots" / "loss.png").read_bytes() and image.width > 100


def test_the_embedding_projector(real):
    folder = real.folder / "tensorboard" / "embeddings"
    assert "pairs" in (folder / "projector_config.pbtxt").read_text()
    (part,) = (path.parent for path in folder.rglob("tensors.tsv"))
    with (part / "tensors.tsv").open() as file:
        rows = [[float(cell) for cell in row] for row in csv.reader(file, delimiter="\t")]
    kept = real.embeddings()
    assert np.allclose(rows, np.concatenate([kept["image"], kept["text"]]), rtol=1e-5, atol=1e-6)
    head, *words = (part / "metadata.tsv").read_text().splitlines()
    assert head == "kind\trow\tcaption" and len(words) == 8
    assert words[0] == f"image\t0\t{kept['captions'][0]}" and words[7] == f"caption\t3\t{kept['captions'][3]}"
    assert (part / "sprite.png").stat().st_size > 100


def test_a_run_that_goes_on_has_one_log(small, whole, tmp_path, monkeypatch):
    for name in BOTH:
        pytest.importorskip(name)
    with monkeypatch.context() as patch:
        stop_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            fit(small.replace(track=BOTH), tmp_path / "run", **QUIET)
    run = resume(tmp_path / "run", **QUIET)
    assert_same(run, whole)
    assert_is_log_of(of_tensorboard(run.folder), run, double=False)
    assert_is_log_of(of_trackio(run.folder), run)
    run = resume(tmp_path / "run", epochs=3, **QUIET)  # scores of the shorter run may stay where they are
    found = of_trackio(run.folder)
    assert found["final/average"].keys() == {8, 12}
    for log in (of_tensorboard(run.folder), found):
        assert log["train/loss"].keys() == set(range(12)) == log["norms/all/weight"].keys()


KILLED = """
import os, signal, sys, time
from pathlib import Path
from clipedu import Experiment, fit
from clipedu.runs.run import Run
from clipedu.workflow.tracking import Tracking

def die():
    os.kill(os.getpid(), signal.SIGKILL)

keep, append = Tracking._keep, Run.append_rows

def sent(self):
    if self.run.history["step"].max() >= 3:
        time.sleep(1.5)  # trackio writes on its own
        die()
    keep(self)

def written(self, name, frame):
    append(self, name, frame)
    if name == "norms" and len(frame) and frame["step"].max() >= 5:
        die()

settings, folder = map(Path, sys.argv[1:3])
for moment in sys.argv[3:]:
    if (child := os.fork()) == 0:
        if moment == "sent":
            Tracking._keep = sent
        else:
            Run.append_rows = written
        fit(Experiment.from_json(settings.read_text()), folder / moment, progress=False, report=False)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
"""


@pytest.fixture(scope="module")
def killed(small, tmp_path_factory):
    """Two runs that were killed: when rows were sent and not noted, and when they were written and no checkpoint."""
    for name in BOTH:
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("killed")
    (folder / "settings.json").write_text(small.replace(track=BOTH, checkpoint_every=2).to_json())
    done = run_python("-c", KILLED, folder / "settings.json", folder, "sent", "written")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("moment", ["sent", "written"])
def test_a_killed_run_goes_on_with_one_log(killed, whole, moment):
    (file,) = (killed / moment / "tensorboard").glob("events*")
    with file.open("ab") as half:  # a record that is not whole
        half.write(b"\x18\0\0\0\0\0\0\0\xa3\x7f")
    run = resume(killed / moment, **QUIET)
    assert_same(run, whole)
    assert_is_log_of(of_trackio(run.folder), run)
    assert_is_log_of(of_tensorboard(run.folder), run, double=False)


def test_wandb_has_the_tables(small, whole, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with monkeypatch.context() as patch:
        stop_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            fit(small.replace(track="wandb"), tmp_path / "run", **QUIET)
    run = resume(tmp_path / "run", **QUIET)
    assert_same(run, whole)
    assert_is_log_of(of_wandb(run.folder), run)
    name = json.loads((run.folder / "trackers.json").read_text())["name"]
    assert {path.name for path in (run.folder / "wandb").glob("offline-run-*/*.wandb")} == {f"run-{name}.wandb"}


def test_the_command_line(tmp_path):
    done = run_python("-m", "clipedu", "train", "--track", "tensorbord", "--folder", tmp_path / "run")
    assert (
        done.returncode == 2
        and "tensorboard, trackio, wandb" in done.stderr
        and "Did you mean 'tensorboard'" in done.stderr
    )
    assert not (tmp_path / "run").exists()
