"""Measure seconds of functions in turn, and the peak memory of a loss.

    python -m clipedu.bench.measure '{"source": "clipedu", "loss": "clip", "batch": 16384, "dim": 512, "device": "cpu", "threads": 1}'

runs one step in a process of its own, because the recorded peak of a process never falls. It prints `bytes` and
`seconds` as JSON.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from clipedu.bench.peers import contender
from clipedu.utils.errors import ClipeduError

SECONDS_A_CELL = 2.0


def step_of(source: str, loss: str, batch: int, dim: int, device: str) -> Callable[[], None]:
    """Return a function that runs forward and backward of a contender once.

    The embeddings are random.

    Args:
        source, loss: see `peers.contender`.
        batch: number of pairs, B.
        dim: width of the embeddings, D.
        device: "cpu" or "cuda".
    """
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.randn(batch, dim, generator=generator).to(device).requires_grad_() for _ in range(2))
    index = torch.arange(batch)
    function = contender(source, loss, batch, device)

    def step() -> None:
        image.grad = text.grad = None
        function(image, text, index).backward()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def in_turn(*peers: Callable[[], None]) -> tuple[float, ...]:
    """Return the median seconds of each function, called in turn.

    A warm-up is left out. The functions take turns, so that other load on the machine slows all of them alike.
    """
    warm_up = sum(map(_seconds, peers))
    repeats = min(50, max(3, round(SECONDS_A_CELL / warm_up)))
    rounds = [[_seconds(peer) for peer in peers] for _ in range(repeats)]
    return tuple(median(side) for side in zip(*rounds, strict=True))


def machine(device: str) -> str:
    """Return the name of the GPU or the processor."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak(**what: Any) -> dict[str, float]:
    """Measure one step in a fresh process.

    Args:
        **what: arguments of `measure_here`.

    Returns:
        `bytes` at the peak above those held before, and `seconds`.

    Raises:
        ClipeduError: the process fails, for example because memory runs out.
    """
    what_failed = f"{what['loss']} of {what['source']} at a batch of {what['batch']}"
    return in_fresh_process("clipedu.bench.measure", what, what_failed)


def in_fresh_process(module: str, what: dict[str, Any], name: str) -> dict[str, float]:
    """Run a module with arguments as JSON, and return the JSON that it prints.

    Args:
        module: to run with `python -m`.
        what: its arguments.
        name: of what is measured, for the error.

    Raises:
        ClipeduError: the process fails, for example because memory runs out.
    """
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", module, json.dumps(what)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed, probably for want of memory"])[-1]
        raise ClipeduError(f"{name} failed: {last}")
    return json.loads(done.stdout)


def peak_here(step: Callable[[], None], warm_up: Callable[[], None], device: str) -> dict[str, float]:
    """Measure one call in this process, which should be a fresh one.

    Args:
        step: what is measured.
        warm_up: a small one, called before: libraries and thread pools.
        device: "cpu" or "cuda".

    Returns:
        `bytes` at the peak above those held before, and `seconds`.
    """
    warm_up()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = _held(device)
    seconds = _seconds(step)
    return {"bytes": _highest(device) - before, "seconds": seconds}


def measure_here(source: str, loss: str, batch: int, dim: int, device: str, threads: int) -> dict[str, float]:
    """Measure one step in this process, which should be a fresh one.

    Args:
        source, loss: see `peers.contender`.
        batch: number of pairs, B.
        dim: width of the embeddings, D.
        device: "cpu" or "cuda".
        threads: of torch.

    Returns:
        `bytes` at the peak above those held before, and `seconds`.
    """
    torch.set_num_threads(threads)
    warm_up = step_of(source, loss, 64, dim, device)
    return peak_here(step_of(source, loss, batch, dim, device), warm_up, device)


def print_line(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def _seconds(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _held(device: str) -> int:
    return torch.cuda.memory_allocated() if device == "cuda" else _memory("VmRSS")


def _highest(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _memory("VmHWM")


def _memory(field: str) -> int:
    """Return bytes of this process, from Linux's status file.

    On other systems it is the peak so far, whatever the field.

    (`ru_maxrss` alone would start at the size of the parent process.)
    """
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith(field))
    import resource

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


if __name__ == "__main__":
    print(json.dumps(measure_here(**json.loads(sys.argv[1]))))
