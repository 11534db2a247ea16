"""The command as a process of its own."""

import gc
import subprocess
import sys

import pytest

from clipedu.cli import process
from clipedu.utils.garbage import NEW_OBJECTS


@pytest.mark.parametrize("ending", [0, 2, SystemExit(0), KeyboardInterrupt()])
def test_garbage_is_seldom_looked_for_and_never_at_the_end(ending, monkeypatch):
    seen = []

    def command():
        seen.append(gc.get_threshold()[0])
        if isinstance(ending, BaseException):
            raise ending
        return ending

    monkeypatch.setattr(process, "command", command)
    thresholds = gc.get_threshold()
    try:
        if isinstance(ending, int):
            assert process.main() == ending
        else:
            with pytest.raises(type(ending)):
                process.main()
        assert seen == [NEW_OBJECTS]
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


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
