"""How many cells at once: processors, memory, GPU, and what other processes cannot run."""

from functools import partial

import pytest

from clipedu import LOSSES, OPTIMIZERS, Experiment
from clipedu.config.course import LOSSES as COURSE_LOSSES
from clipedu.optim import OPTIMIZERS as ALL_OPTIMIZERS
from clipedu.studies import jobs as module
from clipedu.studies.jobs import WORKER_BYTES, check_jobs, only_here, possible_jobs
from clipedu.utils.errors import ClipeduError
from clipedu.utils.registry import Entry


@pytest.fixture
def machine(monkeypatch):
    def have(processors=8, free=None):
        monkeypatch.setattr(module, "processors", lambda: processors)
        monkeypatch.setattr(module, "host_memory", lambda: free)

    have()
    return have


def test_processors_cells_threads_and_memory_bound_it(machine):
    assert possible_jobs(None, 15) == 8 and possible_jobs(None, 3) == 3
    assert possible_jobs(None, 15, threads=3) == 2 and possible_jobs(None, 15, threads=20) == 1
    assert possible_jobs(None, 15, on_cpu=False) == 1
    machine(free=3 * WORKER_BYTES + 1)
    assert possible_jobs(None, 15) == 3 and possible_jobs(None, 2) == 2
    machine(free=1)
    assert possible_jobs(None, 15) == 1


def test_what_is_given_holds(machine):
    machine(processors=1, free=1)
    assert possible_jobs(4, 15) == 4 and possible_jobs(4, 15, on_cpu=False) == 4 and possible_jobs(40, 15) == 15


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2", [2]])
def test_what_is_no_number_of_jobs_is_refused(value):
    for jobs, threads in ((value, 1), (1, value)):
        with pytest.raises(ClipeduError, match="is not a whole number from 1 on"):
            check_jobs(jobs, threads)
    check_jobs(None, 1)
    check_jobs(3, 2)
    with pytest.raises(ClipeduError, match="threads=None"):
        check_jobs(1, None)


def test_all_of_clipedu_can_run_anywhere():
    assert only_here(Experiment(loss=loss) for loss in COURSE_LOSSES) is None
    assert only_here(Experiment().replace(optimizer=name) for name in ALL_OPTIMIZERS) is None


def test_what_was_added_here_is_named(monkeypatch):
    def own(**options):
        raise AssertionError

    monkeypatch.setitem(LOSSES, "mine", Entry("mine", partial(own, a=1), "my own"))
    monkeypatch.setitem(OPTIMIZERS, "adamw", Entry("adamw", own, "another one"))
    assert (
        only_here([Experiment(loss="mine", optimizer="sgd")])
        == "loss 'mine' was added in this process, and others do not have it"
    )
    assert "optimizer 'adamw'" in only_here([Experiment(optimizer="sgd"), Experiment(optimizer="adamw")])
