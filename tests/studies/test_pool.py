"""The pool of workers: tasks at once, nothing lost with one of them, and no process left behind."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

from clipedu.studies.pool import Lost, Pool, Task, raised
from clipedu.studies.worker import Ended, Steps
from clipedu.utils.errors import ClipeduError
from clipedu.utils.interrupts import Terminated, terminable
from clipedu.utils.shared_objects import share
from tests.helpers.processes import ROOT, environment

FUNCTION = "tests.helpers.pool_tasks:task"
pytestmark = pytest.mark.xdist_group("pool")  # each worker imports torch


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A function that returns the file of what is shared."""
    path = tmp_path_factory.mktemp("shared") / "0"
    share({"table": np.full(100_000, 0.5)}, path)
    return lambda number: path


def results(pool, tasks, shared):
    """The last event of each task, by name."""
    return {name: event for name, event in pool.run(tasks, shared) if not isinstance(event, Steps)}


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_tasks_of_several_workers_share_arrays_and_report_their_steps(shared, tmp_path):
    tasks = [Task(f"t{k}", ("add", str(tmp_path), k)) for k in range(5)]
    with Pool(FUNCTION, jobs=2, threads=3) as pool:
        events = list(pool.run(tasks, shared))
    done = {name: event for name, event in events if isinstance(event, Ended)}
    assert sorted(done) == [task.name for task in tasks] and not any(event.error for event in done.values())
    assert ("t0", Steps(0, 4)) in events and ("t0", Steps(4, 4)) in events
    lines = [(tmp_path / f"{k}.txt").read_text().split() for k in range(5)]
    assert [float(total) for total, _, _ in lines] == [50_000 + k for k in range(5)]
    assert {threads for _, threads, _ in lines} == {"3"}
    pids = {int(pid) for _, _, pid in lines}
    assert len(pids) == 2 and not any(map(is_there, pids))


def test_a_task_of_another_file_opens_that_one(shared, tmp_path):
    other = tmp_path / "other"
    share({"table": np.full(100_000, 1.0)}, other)
    tasks = [Task("a", ("add", str(tmp_path), 0)), Task("b", ("add", str(tmp_path), 1), shared=1)]
    asked = []
    with Pool(FUNCTION, jobs=1) as pool:
        results(pool, tasks, lambda number: asked.append(number) or (other if number else shared(0)))
    assert [float((tmp_path / f"{k}.txt").read_text().split()[0]) for k in (0, 1)] == [50_000, 100_001]
    assert asked == [0, 1]


def test_what_workers_say_is_shown_once_with_the_name_of_the_task(shared, caplog, capfd):
    tasks = [Task(name, ("say", "the same")) for name in "abc"]
    with Pool(FUNCTION, jobs=2) as pool, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        results(pool, tasks, shared)
    assert [record.getMessage()[1:] for record in caplog.records] == [": the same"]
    assert {str(warning.message) for warning in caught} == {"old", "of the same"} and len(caught) == 2
    shown = capfd.readouterr()
    assert "printed by a library" in shown.err and not shown.out and "Traceback" not in shown.err


def test_errors_come_back_with_their_place(shared):
    tasks = [Task(kind, ("fail", kind)) for kind in ("clipedu", "odd", "exit")]
    with Pool(FUNCTION, jobs=1) as pool:
        found = {name: raised(event) for name, event in results(pool, tasks, shared).items()}
    assert type(found["clipedu"]) is ClipeduError and str(found["clipedu"]) == "cannot"
    assert str(found["odd"]) == "Odd: 1 and 2" and "pool_tasks.py" in str(found["odd"].__cause__)
    assert isinstance(found["exit"], SystemExit)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (("die", signal.SIGKILL), "its process was killed by SIGKILL, as the system does where memory is short"),
        (("die", signal.SIGSEGV), "its process was killed by SIGSEGV"),
        (("die", signal.SIGTERM), "its process was stopped by SIGTERM"),
        (("die", signal.SIGINT), "its process was stopped"),
        (("leave", 7), "its process has ended with exit code 7"),
    ],
)
def test_a_worker_that_ends_loses_its_own_task_alone(shared, tmp_path, what, said):
    tasks = [
        Task("a", ("add", str(tmp_path), 1)),
        Task("bad", what),
        *(Task(f"t{k}", ("add", str(tmp_path), k)) for k in (2, 3)),
    ]
    with Pool(FUNCTION, jobs=2) as pool:
        ended = results(pool, tasks, shared)
    assert ended.pop("bad") == Lost(said)
    assert sorted(ended) == ["a", "t2", "t3"] and all(event == Ended() for event in ended.values())


def test_the_only_worker_is_replaced(shared, tmp_path):
    tasks = [Task("bad", ("die", signal.SIGKILL)), Task("worse", ("leave", 1)), Task("a", ("add", str(tmp_path), 1))]
    with Pool(FUNCTION, jobs=1) as pool:
        ended = results(pool, tasks, shared)
    assert isinstance(ended["bad"], Lost) and isinstance(ended["worse"], Lost) and ended["a"] == Ended()


def test_leaving_the_block_stops_the_workers_and_waits_for_them(shared, tmp_path):
    tasks = [Task(name, ("wait", str(tmp_path), name)) for name in "ab"]
    for error, how in ((GeneratorExit, "KeyboardInterrupt"), (Terminated, "Terminated")):
        with pytest.raises(error), Pool(FUNCTION, jobs=2) as pool:
            next(pool.run(tasks, shared))
            until(lambda: len(list(tmp_path.iterdir())) == 2)
            raise error
        assert [(tmp_path / name).read_text() for name in "ab"] == [how] * 2
        for name in "ab":
            (tmp_path / name).unlink()


def test_ctrl_c_while_nothing_happens(shared, tmp_path):
    def interrupt():
        until((tmp_path / "a").exists)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(Terminated), terminable(), Pool(FUNCTION, jobs=1) as pool:
        list(pool.run([Task("a", ("wait", str(tmp_path), "a"))], shared))
    assert (tmp_path / "a").read_text() == "Terminated"


def test_a_pool_that_is_left_at_once_leaves_no_process(shared, tmp_path):
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError), Pool(FUNCTION, jobs=2) as pool:
        run = pool.run([Task(name, ("wait", str(tmp_path), name)) for name in "ab"], lambda number: 1 / 0)
        next(run)
    assert time.monotonic() - began < 30 and not list(tmp_path.iterdir())


def test_workers_that_cannot_begin_are_one_line(shared, monkeypatch):
    with (
        pytest.raises(ClipeduError, match="no process can be started .*give --jobs 1"),
        Pool("nowhere:f", jobs=2) as pool,
    ):
        list(pool.run([Task("a", ())], shared))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ClipeduError, match="no process can be started .No such file"), Pool(FUNCTION, jobs=2) as pool:
        list(pool.run([Task("a", ())], shared))


def test_workers_of_a_parent_that_was_killed_stop_and_end(shared, tmp_path):
    code = f"""
from pathlib import Path
from clipedu.studies.pool import Pool, Task
print("once", flush=True)
with Pool({FUNCTION!r}, jobs=2) as pool:
    list(pool.run([Task(n, ("wait", {str(tmp_path)!r}, n)) for n in "ab"], lambda number: Path({str(shared(0))!r})))
"""
    copy = tmp_path.parent / "copy-of-shared"
    copy.write_bytes(shared(0).read_bytes())
    code = code.replace(str(shared(0)), str(copy))
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    until(lambda: len(list(tmp_path.iterdir())) == 2 and all(path.read_text() for path in tmp_path.iterdir()))
    pids = [int(path.read_text()) for path in tmp_path.iterdir()]
    parent.kill()
    assert parent.communicate()[0] == "once\n", "the main module is not run again"
    until(lambda: not any(map(is_there, pids)))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["Terminated"] * 2
    assert not copy.exists(), "nothing is left in the temporary folder"


def test_levels_of_log_lines_are_those_here(shared, caplog):
    caplog.set_level(logging.DEBUG, logger="clipedu")
    with Pool(FUNCTION, jobs=1) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results(pool, [Task("a", ("say", "text"))], shared)
    assert [record.getMessage() for record in caplog.records] == ["a: text", "a: not heard"]
