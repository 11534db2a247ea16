"""A run's status, written even where the disk is full."""

from __future__ import annotations

import json
import os
from contextlib import suppress

from clipedu.runs.run import Run
from clipedu.utils.errors import ClipeduError


def record_end(run: Run, status: str, note: str) -> None:
    """Write how a run has ended; never raise.

    Where there is no room for a new file the old status.json is written over: it is a block of its own already. If that
    fails too, the file still says "running", and `load_run` sees that its process has ended.

    Args:
        run: whose status it is.
        status, note: as those of `Run.save_status`.
    """
    try:
        run.save_status(status, note)
    except ClipeduError:
        text = json.dumps({"status": status, "note": note, "seconds": round(run.seconds, 2)}).encode()
        with suppress(OSError):
            descriptor = os.open(run.folder / "status.json", os.O_WRONLY)
            try:
                if os.write(descriptor, text) == len(text):
                    os.ftruncate(descriptor, len(text))
            finally:
                os.close(descriptor)
