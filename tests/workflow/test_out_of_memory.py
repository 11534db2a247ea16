"""Whatever runs out of memory while a run is made: one line that says which settings to halve, and a run that can go on."""

import pytest
import torch

import clipedu
from clipedu import fit, load_run, resume
from clipedu.cli.parser import main
from clipedu.training.trainer import Trainer
from clipedu.utils.errors import ClipeduError
from clipedu.utils.memory import OutOfMemory
from clipedu.workflow import resuming
from tests.helpers.small_runs import QUIET, assert_same

ERRORS = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ...\nmany lines"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000 bytes. Error code 12 (Cannot allocate memory)"),
    "numpy": MemoryError("Unable to allocate 8.00 PiB for an array"),
    "python": MemoryError(),
}  # fmt: skip
HALVED = "accumulate=2 (now 1; the gradients stay the same), or batch_size=2 (now 4), or image_size=8 (now 16)"


def failing(error, at=0, original=Trainer._train_on):
    def step(self, *arguments):
        if self.step >= at:
            raise error
        return original(self, *arguments)

    return step


@pytest.mark.parametrize("kind", ERRORS)
def test_a_step_without_memory_is_one_line_and_the_status_says_so(small, whole, tmp_path, monkeypatch, kind):
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_on", failing(ERRORS[kind], at=5))
        with pytest.raises(OutOfMemory) as caught:
            fit(small, tmp_path / "run", **QUIET)
    message = str(caught.value)
    assert message.startswith("the memory is not enough: ") and HALVED in message and "\n" not in message
    assert isinstance(caught.value, ClipeduError) and caught.value.__cause__ is ERRORS[kind]
    run = load_run(tmp_path / "run")
    assert run.status == "stopped" and run.note == f"by OutOfMemory: {message}"
    assert_same(resume(run.folder, **QUIET), whole)


def test_the_first_step_of_a_resume_that_finds_no_memory_is_not_blamed_on_the_checkpoint(stopped, monkeypatch):
    original = resuming.restore

    def load_and_break(trainer, *arguments):
        original(trainer, *arguments)
        trainer.optimizer.step = failing_step

    def failing_step():
        raise ERRORS["cpu"]

    monkeypatch.setattr(resuming, "restore", load_and_break)
    with pytest.raises(OutOfMemory, match="the memory is not enough: 4.0 GB"):
        resume(stopped, **QUIET)


@pytest.mark.parametrize("where", ["clipedu.workflow.pipeline.load_shared_data", "clipedu.workflow.pipeline.prepare"])
def test_before_the_folder_is_made_nothing_is_left(small, tmp_path, monkeypatch, where):
    def fail(*_, **__):
        raise ERRORS["cpu"]

    monkeypatch.setattr(where, fail)
    with pytest.raises(OutOfMemory, match="batch_size=2"):
        fit(small, tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists()


def test_while_a_run_is_scored(small, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ERRORS["gpu"]

    monkeypatch.setattr("clipedu.workflow.pipeline.score", fail)
    with pytest.raises(OutOfMemory) as caught:
        fit(small, tmp_path / "run", **QUIET)
    assert load_run(tmp_path / "run").note == f"while it was scored by OutOfMemory: {caught.value}"


def test_training_step_by_step(small, monkeypatch):
    monkeypatch.setattr(Trainer, "_train_on", failing(ERRORS["gpu"]))
    with pytest.raises(OutOfMemory, match="20.00 GiB more were asked for"):
        list(clipedu.train(small))


def test_the_command_line(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Trainer, "_train_on", failing(ERRORS["gpu"]))
    words = ["train", "--data", small.data, "--train-size", "none", "--batch-size", "4", "--image-size", "16"]
    words += ["--epochs", "1", "--embedding-dim", "8", "--folder", str(tmp_path / "run")]
    assert main(words) == 2
    error = capsys.readouterr().err
    last = error.strip().splitlines()[-1]
    assert last.startswith("clipedu: the memory is not enough: 20.00 GiB") and HALVED in last
    assert "Traceback" not in error


def test_what_cannot_be_halved_is_not_named(small, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "_train_on", failing(ERRORS["python"]))
    with pytest.raises(OutOfMemory) as caught:
        fit(small.replace(accumulate=2), tmp_path / "run", **QUIET)
    assert "accumulate=" not in str(caught.value) and "batch_size=" not in str(caught.value)
    assert "image_size=8 (now 16); or a smaller model" in str(caught.value)
