"""Checkpoints: whole at any time, whatever is killed or full."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import clipedu
from clipedu.runs.folders import load_run
from clipedu.runs.run import Run
from tests.helpers.errors import message_of
from tests.runs.example_run import state_of

KILLED_IN = ["safetensors.torch.save_file", "torch.save", "pathlib.Path.rename", "shutil.rmtree"]


def kept(run: Run) -> list[str]:
    return sorted(path.name for path in (run.folder / "checkpoint").iterdir())


def step_in(run: Run) -> int:
    state = torch.load(run.checkpoint() / "state.pt", weights_only=True)
    from safetensors.torch import load_file

    assert set(load_file(run.checkpoint() / "model.safetensors"))
    return state["step"]


def test_only_the_last_checkpoint_is_kept(run, model):
    assert "has no checkpoint: the run was stopped before its first one" in message_of(run.checkpoint)
    for step in (9, 10, 100):
        run.save_checkpoint(step, model, state_of(step))
        assert step_in(run) == step and kept(run) == [f"step-{step:08d}"]


def test_the_state_is_plain(run, model):
    run.save_checkpoint(3, model, state_of(3))
    state = torch.load(run.checkpoint() / "state.pt", weights_only=True)
    assert state["optimizer"]["param_groups"] == [{"lr": 0.1, "params": [0]}] and state["none"] is None
    assert torch.equal(state["random"], state_of(3)["random"])


def test_the_same_step_again(run, model):
    for note in ("one", "two", "three"):
        run.save_checkpoint(5, model, {**state_of(5), "note": note})
        assert torch.load(run.checkpoint() / "state.pt", weights_only=True)["note"] == note and len(kept(run)) == 1
    run.save_checkpoint(6, model, state_of(6))
    assert step_in(run) == 6 and len(kept(run)) == 1


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill -9."""


@pytest.mark.parametrize("place", KILLED_IN)
@pytest.mark.parametrize("again", [False, True], ids=["next step", "same step"])
def test_a_kill_at_any_moment_leaves_a_checkpoint(run, model, monkeypatch, place, again):
    run.save_checkpoint(1, model, state_of(1))
    module, _, name = place.rpartition(".")
    owner = {
        "safetensors.torch": __import__("safetensors.torch").torch,
        "torch": torch,
        "pathlib.Path": Path,
        "shutil": shutil,
    }[module]
    original, calls = getattr(owner, name), []

    for before in (True, False):
        with monkeypatch.context() as patch:

            def killed(*args, before=before, **kwargs):
                calls.append(args)
                if not before:
                    original(*args, **kwargs)
                raise Killed

            patch.setattr(owner, name, killed)
            with pytest.raises(Killed):
                run.save_checkpoint(1 if again else 2, model, state_of(2))
        assert step_in(load_run(run.folder)) in (1, 2)
    assert len(calls) == 2
    run.save_checkpoint(7, model, state_of(7))
    assert step_in(run) == 7 and kept(run) == ["step-00000007"]


def test_a_real_kill_in_the_middle(run, model, tmp_path):
    """Another process writes checkpoints as fast as it can until it is killed."""
    code = f"""
import torch
from clipedu.runs import load_run
run, step = load_run({str(run.folder)!r}), 0
model = torch.nn.Linear(50, 50)
while True:
    step += 1
    run.save_checkpoint(step, model, {{"step": step}})
    print(step, flush=True)
"""
    root = str(Path(clipedu.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root}, stdout=subprocess.PIPE, text=True
    )
    reached = 0
    while reached < 20:
        reached = int(process.stdout.readline())
    process.kill()
    process.wait()
    assert step_in(run) >= 20


def test_a_checkpoint_that_can_not_be_written_keeps_the_one_before(run, model, monkeypatch):
    run.save_checkpoint(1, model, state_of(1))

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        assert "cannot be written: No space left on device" in message_of(run.save_checkpoint, 2, model, state_of(2))
    assert step_in(run) == 1
    shutil.rmtree(run.folder / "checkpoint")
    (run.folder / "checkpoint").write_text("a file")
    assert "cannot be written" in message_of(run.save_checkpoint, 3, model, state_of(3))
