"""Checkpoints: whole at any time, whatever is killed or full."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
import torch

import clipedu
from clipedu.runs.checkpoint import DamagedCheckpoint, check_checkpoint, sound_checkpoint
from clipedu.runs.folders import load_run
from clipedu.runs.kept import tokenizer_sum
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


def test_the_last_two_checkpoints_are_kept(run, model):
    assert "has no checkpoint: the run was stopped before its first one" in message_of(run.checkpoint)
    before = []
    for step in (9, 10, 100):
        run.save_checkpoint(step, model, state_of(step))
        assert step_in(run) == step and kept(run) == [*before, f"step-{step:08d}"]
        before = [f"step-{step:08d}"]


def test_there_are_never_more_than_two_even_while_one_is_written(run, model, monkeypatch):
    for step in (1, 2):
        run.save_checkpoint(step, model, state_of(step))
    seen = []
    monkeypatch.setattr(torch, "save", lambda *args: seen.append(kept(run)))
    run.save_checkpoint(3, model, state_of(3))
    assert [name for name in seen[0] if not name.startswith(".")] == ["step-00000002"] and len(seen[0]) == 2


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_are_kept_as_asked_for_and_the_best(run, model, monkeypatch, keep):
    run.experiment = run.experiment.replace(keep_checkpoints=keep)
    seen = []
    original = torch.save
    monkeypatch.setattr(torch, "save", lambda *args: (seen.append(kept(run)), original(*args)))
    for step in range(1, 7):
        if step in (2, 5):
            row = {"step": step, "epoch": 0.5, "weights": "model", "average": 10.0 * step}
            run.append_rows("validation", pd.DataFrame([row]))
        run.save_checkpoint(step, model, state_of(step))
        best = [2] * (2 <= step < 5) + [5] * (step >= 5)
        stay = sorted({*range(max(1, step - keep + 1), step + 1), *best})
        assert kept(run) == [f"step-{n:08d}" for n in stay]
    assert max(len([name for name in names if name.startswith("step")]) for names in seen) <= max(2, keep)
    assert run.checkpoint("best").name == "step-00000005" and set(run.weights(which="best"))
    assert "step-00000002" in seen[4], "the best one goes only after the better one is whole"


def test_an_average_is_kept_beside_the_weights_and_checked(run, model):
    run.save_checkpoint(1, model, state_of(1))
    assert run.averaged() is None
    assert "step-00000001 has no averaged.safetensors" in message_of(run.weights, averaged=True)
    name, tensor = next(iter(model.state_dict().items()))
    run.save_checkpoint(2, model, state_of(2), {name: tensor + 1})
    assert torch.equal(run.weights(averaged=True)[name], tensor + 1) and torch.equal(run.weights()[name], tensor)
    assert run.weights().keys() == run.weights(averaged=True).keys() and set(run.averaged()) == {name}
    flip(run.checkpoint() / "averaged.safetensors")
    assert "averaged.safetensors cannot be read: it is not what was written" in message_of(run.averaged)
    assert sound_checkpoint(run.folder).name == "step-00000001"


def test_the_state_is_plain(run, model):
    run.save_checkpoint(3, model, state_of(3))
    state = torch.load(run.checkpoint() / "state.pt", weights_only=True)
    assert state["optimizer"]["param_groups"] == [{"lr": 0.1, "params": [0]}] and state["none"] is None
    assert torch.equal(state["random"], state_of(3)["random"])


def test_the_same_step_again(run, model):
    for note in ("one", "two", "three"):
        run.save_checkpoint(5, model, {**state_of(5), "note": note})
        assert torch.load(run.checkpoint() / "state.pt", weights_only=True)["note"] == note and len(kept(run)) <= 2
    run.save_checkpoint(6, model, state_of(6))
    assert step_in(run) == 6 and len(kept(run)) == 2


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill -9."""


@pytest.mark.parametrize("place", KILLED_IN)
@pytest.mark.parametrize("again", [False, True], ids=["next step", "same step"])
def test_a_kill_at_any_moment_leaves_a_checkpoint(run, model, monkeypatch, place, again):
    for step in (0, 1):
        run.save_checkpoint(step, model, state_of(step))
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
    for step in (7, 8):
        run.save_checkpoint(step, model, state_of(step))
        assert step_in(run) == step
    assert kept(run) == ["step-00000007", "step-00000008"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "checkpoint.json"])
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink, lambda path: path.write_bytes(b"")])
def test_of_two_the_undamaged_one_is_found(run, model, caplog, name, damage):
    for step in (1, 2):
        run.save_checkpoint(step, model, state_of(step))
    assert sound_checkpoint(run.folder).name == "step-00000002" and not caplog.records
    damage(run.checkpoint() / name)
    if (name, damage) == ("checkpoint.json", Path.unlink):  # as those of older versions are
        assert sound_checkpoint(run.folder).name == "step-00000002"
        return
    with pytest.raises(DamagedCheckpoint, match=f"{name} cannot be read"):
        check_checkpoint(run.checkpoint())
    assert sound_checkpoint(run.folder).name == "step-00000001"
    assert f"{name} cannot be read" in caplog.text and "the checkpoint before it, step-00000001" in caplog.text
    assert kept(run) == ["damaged-step-00000002", "step-00000001"]
    run.save_checkpoint(2, model, state_of(2))
    assert kept(run) == ["step-00000001", "step-00000002"]


def test_where_all_are_damaged_nothing_is_touched(run, model):
    assert sound_checkpoint(run.folder) is None
    for step in (1, 2):
        run.save_checkpoint(step, model, state_of(step))
        flip(run.checkpoint() / "state.pt")
    message = message_of(sound_checkpoint, run.folder)
    assert "step-00000002/state.pt cannot be read: it is not what was written" in message
    assert kept(run) == ["step-00000001", "step-00000002"]


def test_a_flipped_bit_is_never_scored(run, model):
    """Weights and state are checked whenever they are read, since each may be read alone."""
    run.save_checkpoint(1, model, state_of(1))
    for name, read in (("model.safetensors", run.weights), ("state.pt", lambda: run.training_state("cpu"))):
        whole = (run.checkpoint() / name).read_bytes()
        flip(run.checkpoint() / name)
        assert f"{name} cannot be read: it is not what was written" in message_of(read)
        (run.checkpoint() / name).write_bytes(whole)
        read()


def test_a_checkpoint_of_an_older_version_is_checked_by_its_form(run, model):
    run.save_checkpoint(1, model, state_of(1))
    (run.checkpoint() / "checkpoint.json").unlink()
    assert check_checkpoint(run.checkpoint()) == {} and run.weights() and run.training_state("cpu")
    for damage in (flip, cut):
        whole = (run.checkpoint() / "state.pt").read_bytes()
        damage(run.checkpoint() / "state.pt")
        assert "state.pt cannot be read" in message_of(check_checkpoint, run.checkpoint())
        (run.checkpoint() / "state.pt").write_bytes(whole)


def test_a_checkpoint_says_what_it_belongs_to(run, model):
    run.save_checkpoint(1, model, state_of(1))
    facts = check_checkpoint(run.checkpoint())
    assert facts["step"] == 1 and facts["experiment"] == asdict(run.experiment)
    assert facts["tokenizer"] == tokenizer_sum(model.tokenizer)


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


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes")
@pytest.mark.parametrize("room", [0, 1_000, 40_000, 400_000, 999_999])
def test_a_real_error_of_writing_is_a_line_and_nothing_is_lost(run, model, room):
    """torch.save hides it behind an error of its own."""
    import resource

    run.save_checkpoint(1, model, state_of(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        message = message_of(run.save_checkpoint, 2, model, {**state_of(2), "large": torch.zeros(250_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "step-00000002 cannot be written: " in message and "too large" in message
    assert step_in(run) == 1 and kept(run) == ["step-00000001"]


def test_a_state_of_another_step_than_its_folder_is_damaged(run, model):
    """Without checkpoint.json, as older versions wrote it, no sum tells."""
    run.save_checkpoint(2, model, state_of(1))
    (run.checkpoint() / "checkpoint.json").unlink()
    with pytest.raises(DamagedCheckpoint, match="field 'step' is 1, its folder is step-00000002"):
        run.training_state("cpu")
    run.save_checkpoint(2, model, state_of(2))
    assert run.checkpoint().name == "step-00000002+" and run.training_state("cpu")["step"] == 2


@pytest.mark.parametrize(
    ("content", "why"),
    [("[" * 100_000, "nested too deeply"), ("[]", "not what was written"), ('{"content": 1}', "not what was written")],
)
def test_facts_that_are_damaged_are_named_in_words(run, model, content, why):
    run.save_checkpoint(2, model, state_of(2))
    path = run.checkpoint() / "checkpoint.json"
    path.write_text(content)
    message = message_of(run.weights)
    assert message.startswith(f"{path} cannot be read: ") and why in message and "indices" not in message
    path.unlink()
    path.mkdir()
    assert message_of(run.weights) == f"{path} cannot be read: it is a folder"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has none")
@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "checkpoint.json"])
@pytest.mark.parametrize("summed", [True, False])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(run, model, name, summed):
    run.save_checkpoint(2, model, state_of(2))
    if not summed:
        (run.checkpoint() / "checkpoint.json").unlink()
    (run.checkpoint() / name).unlink(missing_ok=True)
    os.mkfifo(run.checkpoint() / name)
    with pytest.raises(DamagedCheckpoint, match=f"{name} cannot be read: it is no file"):
        check_checkpoint(run.checkpoint())
