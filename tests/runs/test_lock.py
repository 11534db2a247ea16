"""The lock of a folder: one process at a time, told who holds it; none is left by a kill."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from clipedu.runs import lock
from clipedu.runs.lock import HOLDER, locked, was_killed
from clipedu.utils.errors import ClipeduError
from tests.helpers.errors import message_of
from tests.helpers.processes import environment

HOLD = """
import sys, time
from pathlib import Path
from clipedu.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def take(folder) -> None:
    with locked(folder):
        pass


def test_the_second_is_told_who_holds_it(other, tmp_path):
    message = message_of(take, tmp_path)
    assert f"{tmp_path} is in use by process {other.pid} on " in message and "since 20" in message
    assert "-c" in message and "wait until it has ended, or stop it" in message
    assert json.loads((tmp_path / HOLDER).read_text())["pid"] == other.pid, "who was refused changes nothing"


def test_one_that_has_just_taken_it_is_named_and_not_the_one_that_was_killed_before(other, tmp_path):
    named = (tmp_path / HOLDER).read_text()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for before in (json.dumps({**json.loads(named), "pid": ended.pid}), ""):
        (tmp_path / HOLDER).write_text(before)
        timer = threading.Timer(0.2, lambda: (tmp_path / HOLDER).write_text(named))
        timer.start()
        assert f"in use by process {other.pid} on " in message_of(take, tmp_path)
        timer.join()


def test_a_kill_leaves_no_lock(other, tmp_path):
    assert not was_killed(tmp_path)
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert was_killed(tmp_path)
    take(tmp_path)
    assert not was_killed(tmp_path) and not (tmp_path / HOLDER).exists()


def test_the_same_thread_may_take_it_again(tmp_path):
    with locked(tmp_path):
        with locked(tmp_path / "." / ".." / tmp_path.name):
            assert (tmp_path / HOLDER).exists()
        assert (tmp_path / HOLDER).exists()
        assert "another thread of this process" in in_thread(tmp_path)
    assert not (tmp_path / HOLDER).exists() and in_thread(tmp_path) == ""


def in_thread(folder) -> str:
    """What another thread is told."""
    said = []

    def try_it():
        try:
            take(folder)
            said.append("")
        except ClipeduError as error:
            said.append(str(error))

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    return said[0]


def test_an_error_frees_it(tmp_path):
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    take(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks(tmp_path, monkeypatch, code):
    def no_locks(self, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
    with locked(tmp_path):
        with locked(tmp_path):
            assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()
        assert "another thread" in in_thread(tmp_path)
    assert not (tmp_path / HOLDER).exists()
    mine = lock.this_process()
    (tmp_path / HOLDER).write_text(json.dumps({**mine, "host": "elsewhere"}))
    message = message_of(take, tmp_path)
    assert f"in use by process {os.getpid()} on elsewhere" in message and f"delete {tmp_path / HOLDER}" in message
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    (tmp_path / HOLDER).write_text(json.dumps({**mine, "pid": child.pid}))
    take(tmp_path)


def test_a_full_disk_locks_without_a_name(tmp_path, monkeypatch):
    def full(path, value):
        raise ClipeduError("no space")

    monkeypatch.setattr(lock, "write_json", full)
    with locked(tmp_path):
        assert "is in use by" in in_thread(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def read_only(self, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("filelock.FileLock.acquire", read_only)
    assert message_of(take, tmp_path) == f"{tmp_path} cannot be written: Read-only file system"


def test_one_of_several_processes_that_are_not_joined_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "writing into a folder is done in one process" in message_of(take, tmp_path) and not list(tmp_path.iterdir())
