"""`clipedu quickstart`, `train` and `groups`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from clipedu import load_run
from clipedu.cli.parser import main
from clipedu.config.experiment import Experiment
from tests.cli.options import TINY
from tests.helpers.shard_maker import make_shards, photo, sample, write_tar


def test_quickstart_trains_the_default_in_the_next_free_folder(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("runs/quickstart-1").mkdir(parents=True)
    seen = []

    def fit(experiment, folder):
        seen.append((experiment, folder))
        return SimpleNamespace(metrics=finished.metrics, seconds=1.0, folder=folder)

    monkeypatch.setattr("clipedu.workflow.pipeline.fit", fit)
    assert main(["quickstart"]) == 0
    assert seen == [(Experiment(), Path("runs/quickstart-2"))]
    shown = capsys.readouterr().out
    assert "TR@1" in shown and "Everything is in runs/quickstart-2/" in shown


def test_train_on_shards_names_what_it_left_out(tmp_path, capsys):
    folder = make_shards(tmp_path / "own", 20)
    make_shards(folder, 6, name="own", split="val", captions=5)
    write_tar(folder / "own-train-009.tar", [*sample("good", photo(9), ["fine"]), *sample("silent", photo(8), None)])
    assert (
        main(
            [
                "train",
                *TINY,
                "--data",
                str(folder),
                "--train-size",
                "none",
                "--batch-size",
                "7",
                "--folder",
                str(tmp_path / "run"),
            ]
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert "1 samples of own/train were left out" in shown and "silent" in shown
    assert "on 6 images with 30 captions" in shown and "top-1" not in shown.split("average")[0].replace("zero-shot", "")


def test_groups_of_an_experiment_are_shown_and_nothing_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["groups", *TINY, "--optimizer", "adamc", "--weight-decay", "0.07", "--learn-temperature", "true"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split() for line in shown.splitlines()}
    assert rows["decayed"][3:5] == ["0.07", "corrected"] and rows["head"][3:5] == ["0.07", "constant"]
    assert rows["not decayed"][4:6] == ["0", "-"] and rows["loss"][1:5] == ["1", "1", "0", "-"]
    assert list(rows) == ["group", "decayed", "head", "not decayed", "loss", "total"] and not list(tmp_path.iterdir())
    assert main(["groups", *TINY, "--optimizer", "sgd"]) == 0
    assert "coupled L2" in capsys.readouterr().out


def test_ctrl_c_then_resume(tmp_path):
    """A real process, a real SIGINT in the middle of training, and the command that it prints to go on."""
    run = tmp_path / "run"
    words = [
        sys.executable,
        "-m",
        "clipedu",
        "train",
        "--train-size",
        "256",
        "--batch-size",
        "16",
        "--epochs",
        "50",
        "--folder",
        str(run),
    ]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    for _ in range(3000):
        if list(run.glob("checkpoint/step-*")) or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert f"clipedu train --resume {run}" in errors and "Traceback" not in errors
    stopped = load_run(run)
    assert stopped.status == "stopped" and len(stopped.history) > 0
    epochs = len(stopped.history) // 16 + 1
    assert main(["train", "--resume", str(run), "--epochs", str(epochs)]) == 0
    assert load_run(run).status == "finished"


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_sigterm_of_a_scheduler_in_the_middle_of_an_epoch(tmp_path):
    """A process of its own; the signal comes twice, as some send it. The checkpoint is of the last step with a record."""
    run = tmp_path / "run"
    own = make_shards(tmp_path / "own", 64)
    make_shards(own, 4, name="own", split="val")
    text = ["--text-options", "dim=16", "n_heads=2", "n_layers=1", "hidden_dim=32"]
    words = [*("--data", str(own)), *("--batch-size", "2"), *("--epochs", "999"), *("--checkpoint-every", "5"), *text]
    child = os.fork()
    if child == 0:
        os.dup2(os.open(tmp_path / "errors", os.O_CREAT | os.O_WRONLY), 2)
        sys.stderr = os.fdopen(2, "w")
        code = main(["train", *words, "--image-size", "16", "--folder", str(run)])
        sys.stderr.flush()
        os._exit(code)
    for _ in range(6000):
        if list(run.glob("checkpoint/step-*")) or os.waitpid(child, os.WNOHANG)[0]:
            break
        time.sleep(0.02)
    for _ in range(2):
        os.kill(child, signal.SIGTERM)
    code, errors = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), (tmp_path / "errors").read_text()
    assert code == 143, errors
    assert "clipedu: stopped by SIGTERM; what was done is kept" in errors and f"--resume {run}" in errors
    assert "Traceback" not in errors
    stopped = load_run(run)
    steps = int(stopped.checkpoint().name.removeprefix("step-"))
    assert (stopped.status, stopped.note) == ("stopped", f"by SIGTERM after step {steps} of {32 * 999}")
    assert len(stopped.history) == steps > 0
