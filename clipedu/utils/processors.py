"""Processors: how many of the machine's this process may use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def processors() -> int:
    """Return how many processors this process may use, at least 1.

    They are those that it may run on (affinity), or what the container (cgroup) gives it the time of where that is less.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_quota()
    return max(1, count if quota is None else min(count, int(quota)))


def cgroup_quota(root: Path = _CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return how many processors' time the container gives, None if all.

    Args:
        root: where the cgroups are mounted.
        membership: names this process's cgroup.
    """
    folders = [root, root / "cpu"]
    try:
        for line in membership.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" or "cpu" in controllers.split(","):
                own = root / (Path("cpu") if controllers else Path()) / path.strip("/")
                folders += [own, *(above for above in own.parents if root in above.parents)]
    except (OSError, ValueError):
        pass
    found = [quota for folder in dict.fromkeys(folders) if (quota := _quota(folder)) is not None]
    return min(found) if found else None


def _quota(folder: Path) -> float | None:
    """Return the quota that a cgroup itself has, in either version."""
    try:
        if (both := folder / "cpu.max").exists():
            quota, period = both.read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return int(quota) / int(period) if quota.isdigit() and int(period) > 0 and int(quota) > 0 else None
    except (OSError, ValueError):
        return None
