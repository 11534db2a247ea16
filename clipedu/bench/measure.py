"""Seconds of anything, in turn with its peers; peak bytes of a loss, forward and backward.

    python -m clipedu.bench.measure '{"source": "clipedu", "loss": "clip", "batch": 16384, "dim": 512, "device": "cpu", "threads": 1}'

is one step in a process of its own, because a process never forgets its highest memory. It prints `bytes` and `seconds`.
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

import torch

from clipedu.bench.peers import contender
from clipedu.utils.errors import ClipeduError

SECONDS_A_CELL = 2.0


def step_of(source: str, loss: str, batch: int, dim: int, device: str) -> Callable[[], None]:
    """One forward and backward of a contender (see `peers`) on random embeddings, to be called again and again."""
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
    """Median seconds of each, called in turn, so that what else the machine does meets all alike; warm-up left out."""
    warm_up = sum(map(_seconds, peers))
    repeats = min(50, max(3, round(SECONDS_A_CELL / warm_up)))
    rounds = [[_seconds(peer) for peer in peers] for _ in range(repeats)]
    return tuple(median(side) for side in zip(*rounds, strict=True))


def machine(device: str) -> str:
    """What the numbers were measured on: the GPU's name, or the processor's."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak(**what) -> dict[str, float]:
    """`bytes` above what was held before, and `seconds`, of one step in a fresh process; `what` as in the line above.

    Raises ClipeduError if the process fails, for example for want of memory.
    """
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "clipedu.bench.measure", json.dumps(what)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed, probably for want of memory"])[-1]
        raise ClipeduError(f"{what['loss']} of {what['source']} at a batch of {what['batch']} failed: {last}")
    return json.loads(done.stdout)


def measure_here(source: str, loss: str, batch: int, dim: int, device: str, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    step_of(source, loss, 64, dim, device)()  # libraries, thread pools
    step = step_of(source, loss, batch, dim, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = _held(device)
    seconds = _seconds(step)
    return {"bytes": _highest(device) - before, "seconds": seconds}


def _seconds(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _held(device: str) -> int:
    return torch.cuda.memory_allocated() if device == "cuda" else _memory("VmRSS")


def _highest(device: str) -> int:
    return torch.cuda.max_memory_allocated() if device == "cuda" else _memory("VmHWM")


def _memory(field: str) -> int:
    """Bytes, from Linux's account of this process; elsewhere the highest so far, whichever is asked for.

    (`ru_maxrss` alone would start at the size of the process that started this one.)
    """
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith(field))
    import resource

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


if __name__ == "__main__":
    print(json.dumps(measure_here(**json.loads(sys.argv[1]))))
