"""Memory: how much a device has, and errors that say it was not enough."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from clipedu.utils.disk_space import size_text
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    import torch

WORDS = ("out of memory", "'t allocate memory", "not enough memory", "unable to allocate", "cannot allocate memory")
REMEDY = "A smaller batch_size, image_size or model takes less, and so does accumulate=4"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory was not enough, on any device."""
    return isinstance(error, (MemoryError, OutOfMemory)) or any(words in str(error).lower() for words in WORDS)


class OutOfMemory(ClipeduError):
    """The memory of the machine or of the device is not enough."""


def out_of_memory(error: BaseException, remedy: str = REMEDY) -> str:
    """Return one line on an error of which `is_out_of_memory` is true.

    It holds how much was asked for, where the error says so.

    Args:
        error: of torch, numpy or Python.
        remedy: which settings to change.
    """
    text = str(error)
    if found := re.search(r"(?i)tried to allocate (\d+) bytes", text):
        asked = f"{size_text(int(found[1]))} more were asked for than there are"
    elif found := re.search(r"(?i)allocate ([\d.,]+ ?[KMGTPE]?i?B)", text):
        asked = f"{found[1]} more were asked for than there are"
    else:
        asked = "there is less than this needs"
    return f"the memory is not enough: {asked}. {remedy}"


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that are free on a device, or None if unknown."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    return host_memory() if device.type in ("cpu", "mps") else None


def host_memory() -> int | None:
    """Return the bytes that this process can still use, or None if unknown.

    They are what the machine has available, or what the container (cgroup) allows where that is less.
    """
    known = [size for size in (_of_machine(), _of_container()) if size is not None]
    return min(known) if known else None


def _of_machine() -> int | None:
    try:
        words = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if words:
            return int(words[1]) * 1024
    except OSError:
        pass
    try:  # no Linux: all of it
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _of_container() -> int | None:
    folder = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most, now = (folder / limit).read_text().strip(), int((folder / used).read_text())
            kept = re.search(r"inactive_file (\d+)", (folder / limit).with_name("memory.stat").read_text())
        except (OSError, ValueError):
            continue
        if most.isdigit() and int(most) < 1 << 60:
            return max(0, int(most) - now + (int(kept[1]) if kept else 0))  # cached files make room
    return None
