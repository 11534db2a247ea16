"""How a run has ended is written, even where there is no room for a new file."""

import json

from clipedu.runs.folders import load_run
from clipedu.runs.status import record_end
from tests.helpers.failing_writes import full_at


def test_on_a_full_disk_the_old_file_is_written_over(run):
    for note in ("short", "a longer note than the one before, " * 20, "short again"):
        with full_at(None, run.folder):
            record_end(run, "stopped", note)
        assert json.loads((run.folder / "status.json").read_text())["note"] == note
        assert (load_run(run.folder).status, load_run(run.folder).note) == ("stopped", note)


def test_it_never_raises(run):
    (run.folder / "status.json").unlink()
    with full_at(None, run.folder):
        record_end(run, "stopped", "by a full disk")
    assert not (run.folder / "status.json").exists() and run.status == "stopped"
