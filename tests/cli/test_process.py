"""The command as a process of its own."""

import gc
import subprocess
import sys

import pytest

from clipedu.cli import process
from clipedu.utils.garbage import NEW_OBJECTS


@pytest.mark.parametrize("ending", [0, 2, SystemExit(0), KeyboardInterrupt()])
def test_garbage_is_seldom_looked_for(ending, monkeypatch):
    seen = []

    def command():
        seen.append(gc.get_threshold()[0])
        if isinstance(ending, BaseException):
            raise ending
        return ending

    monkeypatch.setattr(process, "command", command)
    monkeypatch.setattr(process.atexit, "register", lambda *_: None)  # this process goes on
    thresholds = gc.get_threshold()
    try:
        if isinstance(ending, int):
            assert process.main() == ending
        else:
            with pytest.raises(type(ending)):
                process.main()
        assert seen == [NEW_OBJECTS]
    finally:
        gc.set_threshold(*thresholds)


PROGRAM = """
import atexit, sys, threading, time
from clipedu.cli import process

class Last:
    def __del__(self):
        print("taken apart")

last = Last()

def command():
    atexit.register(print, "handler")
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    print("command", end=" ")
    {body}

process.command = command
sys.exit(process.main())
"""


@pytest.mark.parametrize(
    ("body", "code", "said", "error"),
    [
        ("return 0", 0, "command thread\nhandler\n", ""),
        ("return 143", 143, "command thread\nhandler\n", ""),
        ("sys.exit(2)", 2, "command thread\nhandler\ntaken apart\n", ""),
        ("raise ValueError('no')", 1, "command thread\nhandler\ntaken apart\n", "ValueError: no\n"),
    ],
)
def test_it_ends_after_threads_and_handlers_with_all_that_was_said(body, code, said, error):
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(body=body)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, said)
    assert done.stderr.endswith(error) and bool(done.stderr) == bool(error)


def test_nothing_is_said_at_the_end_about_objects_that_are_left():
    """Libraries bound by nanobind, triton for one, tell what they were not allowed to take apart."""
    body = "import importlib.util\n    if importlib.util.find_spec('triton'): import triton._C.libtriton\n    return 0"
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(body=body)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_has_gone_changes_no_exit_code():
    words = [sys.executable, "-m", "clipedu", "list", "losses"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        child.stdout.close()
        assert (child.stderr.read(), child.wait()) == ("", 0)


def test_both_doors_are_the_same():
    for door in (
        ["-m", "clipedu"],
        [
            "-c",
            "import sys; from importlib.metadata import entry_points; "
            "sys.exit(entry_points(group='console_scripts')['clipedu'].load()())",
        ],
    ):
        done = subprocess.run([sys.executable, *door, "list", "nothing"], capture_output=True, text=True)
        assert done.returncode == 2 and "nothing" in done.stderr and "Traceback" not in done.stderr
