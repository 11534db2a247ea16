"""Ctrl-C in a stack: what is finished is kept, what was being trained can go on."""

import signal

import pytest

from clipedu import fit, fit_heads, load_run, resume
from clipedu.training.datasets import load_data
from clipedu.training.stacked import Stack
from clipedu.utils.interrupts import Terminated
from clipedu.workflow import heads_stack
from tests.helpers.stacks import distance


@pytest.fixture(scope="module")
def frozen(small):
    return small.replace(image_frozen=True, text_frozen=True)


@pytest.fixture(scope="module")
def data(frozen):
    return load_data(frozen)


def stop_at(monkeypatch, step: int, number: int) -> None:
    """A signal comes in the middle of a step of a stack."""
    original = Stack._train_on

    def train_on(self, parts, now):
        if now == step:
            signal.raise_signal(number)
        return original(self, parts, now)

    monkeypatch.setattr(Stack, "_train_on", train_on)


@pytest.mark.parametrize(
    ("number", "error", "whom"),
    [(signal.SIGINT, KeyboardInterrupt, "by the user"), (signal.SIGTERM, Terminated, "by SIGTERM")],
)
def test_a_stack_that_is_stopped_can_go_on_run_by_run(frozen, data, tmp_path, monkeypatch, number, error, whom):
    many = {"a": frozen, "b": frozen.replace(lr=1e-3, loss="clip")}
    with monkeypatch.context() as patch:
        stop_at(patch, 4, number)
        with pytest.raises(error):
            fit_heads(many, tmp_path, data=data, progress=False)
    for name, experiment in many.items():
        stopped = load_run(tmp_path / name)
        assert stopped.status == "stopped" and stopped.note == f"{whom} after step 5 of 8"
        assert len(stopped.history) == 5
        done = resume(tmp_path / name, data=data, progress=False, report=False)
        single = fit(experiment, tmp_path / f"single-{name}", data=data, progress=False, report=False)
        assert done.status == "finished" and len(done.history) == 8
        for key, value in single.weights("image_projection").items():
            assert distance(value, done.weights()[key]) < 1e-5


def test_without_a_folder_nothing_is_kept(frozen, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stop_at(monkeypatch, 2, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit_heads([frozen], data=data, progress=False)
    assert not any(tmp_path.iterdir())


def test_runs_that_are_not_scored_yet_are_kept_as_trained(frozen, data, tmp_path, monkeypatch):
    original, calls = heads_stack.write_finished, []

    def write(one, *rest):
        calls.append(one.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(one, *rest)

    monkeypatch.setattr(heads_stack, "write_finished", write)
    with pytest.raises(KeyboardInterrupt):
        fit_heads({name: frozen for name in "abc"}, tmp_path, data=data, progress=False)
    assert load_run(tmp_path / "a").status == "finished"
    third = load_run(tmp_path / "c")
    assert third.status == "stopped" and third.note == "by the user after step 8 of 8"
    assert resume(tmp_path / "c", data=data, progress=False, report=False).metrics == load_run(tmp_path / "a").metrics
