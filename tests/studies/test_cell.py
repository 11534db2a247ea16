"""One cell: run, resumed, or left as it is; more of it, of whole grids, is in test_grid.py."""

import subprocess
import sys

import pytest

from clipedu.runs.folders import load_run
from clipedu.runs.lock import locked
from clipedu.studies.cell import Unusable, earlier_run, run_cell, work
from clipedu.training.datasets import load_data
from clipedu.training.trainer import Trainer
from clipedu.utils.errors import ClipeduError
from tests.helpers.processes import environment


@pytest.fixture(scope="module")
def small(quick):
    return quick.replace(train_size=32, epochs=1)


@pytest.fixture(scope="module")
def data(small):
    return load_data(small)


def test_a_cell_is_run_once_and_counts_its_steps(small, data, tmp_path):
    told = []
    work(data, small, tmp_path / "cell", on_steps=lambda done, of: told.append((done, of)))
    run = load_run(tmp_path / "cell")
    assert run.status == "finished" and told == [(0, 2), (1, 2), (2, 2)]
    again = run_cell(small, tmp_path / "cell", lambda: pytest.fail("a finished cell needs no data"))
    assert again.metrics == run.metrics == earlier_run(tmp_path / "cell", small).metrics
    with pytest.raises(ClipeduError, match="lr was .*Give another --folder"):
        earlier_run(tmp_path / "cell", small.replace(lr=0.5))
    assert earlier_run(tmp_path / "none", small) is None


def test_no_memory_leaves_out_a_cell_and_the_same_call_goes_on(small, data, tmp_path, monkeypatch):
    original = Trainer._train_on

    def fail(self, *arguments):
        if self.step == 1:
            raise MemoryError
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_on", fail)
        with pytest.raises(Unusable, match="the memory is not enough: .*batch_size=8 .now 16"):
            run_cell(small, tmp_path / "cell", lambda: data)
    assert load_run(tmp_path / "cell").status == "stopped"
    assert run_cell(small, tmp_path / "cell", lambda: data).status == "finished"


HOLD = "import sys, time, pathlib; from clipedu.runs.lock import locked\nwith locked(pathlib.Path(sys.argv[1])): print(flush=True); time.sleep(float(sys.argv[2]))"


@pytest.mark.parametrize("seconds", [2, 60])
def test_a_cell_waits_for_a_worker_that_is_about_to_end(small, data, tmp_path, monkeypatch, seconds):
    monkeypatch.setattr("clipedu.studies.cell.PATIENCE", 30 if seconds == 2 else 0.5)
    (tmp_path / "cell").mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "cell"), str(seconds)], env=environment(), stdout=subprocess.PIPE
    )
    holder.stdout.readline()
    try:
        if seconds == 2:
            assert run_cell(small, tmp_path / "cell", lambda: data).status == "finished"
        else:
            with pytest.raises(ClipeduError, match=f"is in use by process {holder.pid}"):
                run_cell(small, tmp_path / "cell", lambda: data)
    finally:
        holder.kill()
        holder.communicate()


def test_a_cell_that_this_thread_has_locked_is_not_waited_for(small, data, tmp_path, monkeypatch):
    monkeypatch.setattr("clipedu.studies.cell.PATIENCE", 1e6)
    (tmp_path / "cell").mkdir()
    with locked(tmp_path / "cell"):
        assert run_cell(small, tmp_path / "cell", lambda: data).status == "finished"
