"""A worker process by its messages alone; what it does in a pool is in test_pool.py."""

import pickle
import subprocess
import sys
import threading

import pytest

from clipedu.studies.worker import Ended, Ready, Start
from tests.helpers.processes import ROOT, environment

pytestmark = pytest.mark.xdist_group("pool")
CODE = "from clipedu.studies.worker import main; main()"


def start(function):
    process = subprocess.Popen(
        [sys.executable, "-c", CODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
    )
    pickle.dump(Start(function, 1, 30, ["clipedu", "grid"]), process.stdin)
    process.stdin.flush()
    return process


def test_a_worker_without_a_task_ends_with_its_input():
    process = start("tests.helpers.pool_tasks:task")
    assert pickle.load(process.stdout) == Ready()
    error = process.communicate(timeout=60)[1]  # closes its input
    assert process.returncode == 0 and not error


def test_a_task_on_what_cannot_be_opened_is_an_error_of_the_task(tmp_path):
    from clipedu.studies.worker import Do

    process = start("tests.helpers.pool_tasks:task")
    assert pickle.load(process.stdout) == Ready()
    pickle.dump(Do(tmp_path / "nothing", ()), process.stdin)
    process.stdin.flush()
    ended = pickle.load(process.stdout)
    assert isinstance(ended, Ended) and isinstance(ended.error, FileNotFoundError)
    pickle.dump(None, process.stdin)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_worker_that_cannot_begin_says_why_and_ends():
    process = start("nowhere:function")
    guard = threading.Timer(60, process.kill)
    guard.start()
    out, error = process.communicate()
    guard.cancel()
    assert process.returncode == 1 and not out and b"No module named 'nowhere'" in error


def test_a_worker_that_is_told_nothing_ends():
    process = subprocess.Popen(
        [sys.executable, "-c", CODE], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=ROOT, env=environment()
    )
    assert process.communicate(timeout=60)[0] == b"" and process.returncode == 1
