"""Processes: one that has ended is known to have."""

import os
import subprocess
import sys

import pytest

from clipedu.utils.processes import has_ended, this_process


def test_who_has_ended():
    me = this_process()
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert set(me) == {"pid", "host", "command", "since"} and not has_ended(me)
    assert has_ended({**me, "pid": child.pid})
    for unknown in ({}, {**me, "pid": child.pid, "host": "elsewhere"}, {**me, "pid": "x"}, {**me, "pid": 10**30}):
        assert not has_ended(unknown)


@pytest.mark.skipif(sys.platform != "linux", reason="it is read in /proc")
def test_a_killed_child_that_nobody_waited_for_has_ended():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert not has_ended({**this_process(), "pid": child.pid})
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert has_ended({**this_process(), "pid": child.pid})
    child.wait()


def test_the_command_is_short(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/clipedu/__main__.py", "train", "--folder", "a b", "x" * 500])
    command = this_process()["command"]
    assert command.startswith("clipedu train --folder 'a b' x") and len(command) == 200
