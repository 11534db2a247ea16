"""Processes: who is this one, and does another still run?"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """Return who this process is: pid, host, command and the time now."""
    program, *words = sys.argv or [""]
    path = Path(program)
    name = path.parent.name if path.name == "__main__.py" else path.name
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "command": shlex.join([name or "python", *words])[:200],
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def has_ended(process: dict[str, Any]) -> bool:
    """Return whether a process is known to have ended.

    It is given as `this_process` describes it.

    Nothing is known of a process on another host. One whose number was given to a new process does not count as ended.
    """
    pid = process.get("pid")
    if process.get("host") != platform.node() or not isinstance(pid, int) or pid <= 0:
        return False
    if os.name == "nt":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's, or a number that no process has
        return False
    return _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Return whether a process has been killed, and nobody has asked how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False
