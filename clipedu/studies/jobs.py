"""How many cells can run at once, and whether others can run them at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from clipedu.config.experiment import Experiment
from clipedu.geometry import GEOMETRIES
from clipedu.losses import LOSSES
from clipedu.models import ENCODERS
from clipedu.optim import OPTIMIZERS
from clipedu.utils.disk_space import size_text
from clipedu.utils.errors import ClipeduError, quoted
from clipedu.utils.memory import host_memory
from clipedu.utils.processors import processors

WORKER_BYTES = 700 << 20  # that a worker takes with a small model: Python, torch and transformers are most of it

log = logging.getLogger("clipedu")


def possible_jobs(given: int | None, cells: int, *, threads: int = 1, on_cpu: bool = True) -> int:
    """Return how many cells are run at once.

    Args:
        given: by the user; None is as many as the processors and the memory allow, and 1 on a GPU.
        cells: how many there are to run.
        threads: of each.
        on_cpu: whether they compute on the processors.

    """
    if given is not None:
        return min(given, cells)
    if not on_cpu:
        return 1
    wanted, free = min(cells, max(1, processors() // threads)), host_memory()
    if free is None or wanted * WORKER_BYTES <= free:
        return wanted
    fitting = max(1, free // WORKER_BYTES)
    log.info("%d of %d cells at once: %s of memory are free", fitting, wanted, size_text(free))
    return fitting


def check_jobs(jobs: int | None, threads: int) -> None:
    """Check that both are whole numbers from 1 on; jobs may be None.

    Raises:
        ClipeduError: one is not.
    """
    for name, value in (("jobs", jobs), ("threads", threads)):
        if (value is None and name == "jobs") or (type(value) is int and value >= 1):
            continue
        raise ClipeduError(f"{name}={quoted(value)} is not a whole number from 1 on")


def only_here(experiments: Iterable[Experiment]) -> str | None:
    """Return why other processes cannot run experiments, None if they can.

    A loss, optimizer, geometry or encoder that is not clipedu's own was added in this process, and other processes do not have it.
    """
    for ex in experiments:
        for registry, name in [
            (LOSSES, ex.loss),
            (OPTIMIZERS, ex.optimizer),
            (GEOMETRIES, ex.geometry),
            (ENCODERS, ex.image_encoder),
            (ENCODERS, ex.text_encoder),
        ]:
            if name in registry and not _is_own(registry[name].build):
                return f"{registry.kind} {name!r} was added in this process, and others do not have it"
    return None


def _is_own(build: Callable[..., Any]) -> bool:
    """Return whether what builds an entry of a registry is a part of clipedu, or of torch and others that it imports."""
    while isinstance(build, partial):
        build = build.func
    return (getattr(build, "__module__", None) or "clipedu").partition(".")[0] in ("clipedu", "torch")
