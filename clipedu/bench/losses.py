"""`clipedu bench losses`: time and memory beside open_clip and the course.

Times are forward and backward together, from raw projections, medians of runs in turn after a warm-up. Peak memory is
that of one step in a fresh process, above what the process held before.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import torch

from clipedu.bench.measure import in_turn, machine, peak, print_line, step_of
from clipedu.bench.peers import TEMPERATURE, contender
from clipedu.losses.streaming import STREAM_ABOVE
from clipedu.utils.checks import check_distinct
from clipedu.utils.errors import ClipeduError
from clipedu.utils.markdown import markdown_row, markdown_table

AGAINST = [
    ("clip", "open_clip"),
    ("siglip", "open_clip"),
    ("clip", "course"),
    ("sogclr", "course"),
    ("cyclip", "course"),
    ("vicreg", "course"),
    ("onlineclr", "course"),
]
LARGE = ["clip", "sogclr"]


def bench_losses(
    batch_sizes: Sequence[int] = (128, 1024, 4096),
    *,
    dim: int = 512,
    large: int = 16_384,
    threads: int | None = None,
    write: Callable[[str], None] = print_line,
) -> list[dict[str, Any]]:
    """Measure, write a Markdown table line by line, and return its rows.

    Args:
        batch_sizes: for the times.
        dim: width of the embeddings.
        large: batch size for peak memory, against open_clip's ClipLoss; 0 leaves that part out.
        threads: of torch; None keeps the current number.
        write: called with each line; prints by default.

    Returns:
        dicts with loss, against, batch, ours and theirs (seconds), ratio; in the part on memory also ours_bytes,
        theirs_bytes and bytes_ratio.

    Raises:
        ClipeduError: open_clip is not installed, or a size that is out of range or given twice.
    """
    check_distinct("batch_sizes", batch_sizes)
    if any(size < 2 for size in (*batch_sizes, large or 2)):
        raise ClipeduError(f"a batch has at least 2 pairs, got {[*batch_sizes, large]} (large=0 leaves that part out)")
    for name, value in (("dim", dim), ("threads", threads)):
        if value is not None and value < 1:
            raise ClipeduError(f"{name} must be at least 1, got {value}")
    contender("open_clip", "clip", 2)  # raises if open_clip is missing
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        write(header(dim, device))
        rows = _times(batch_sizes, dim, device, write)
        return rows + (_peaks(large, dim, device, write) if large else [])
    finally:
        torch.set_num_threads(before)


def header(dim: int, device: str) -> str:
    """Describe machine, threads, versions and settings of the measurement."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("clipedu", "torch", "open_clip_torch"))
    return (
        f"{machine(device)}, {torch.get_num_threads()} of {os.cpu_count()} threads; {versions}, Python "
        f"{platform.python_version()}. float32, D {dim}, temperature {TEMPERATURE}; losses that can stream do above B {STREAM_ABOVE}.\n"
        "Forward and backward from raw projections; ratio = clipedu / peer, below 1 is faster or smaller.\n"
    )


def _times(batch_sizes: Sequence[int], dim: int, device: str, write: Callable[[str], None]) -> list[dict[str, Any]]:
    write(markdown_table(["loss", "against", "B", "clipedu, ms", "peer, ms", "ratio"], []))
    rows = []
    for batch in batch_sizes:
        for loss, source in AGAINST:
            ours, theirs = in_turn(*(step_of(who, loss, batch, dim, device) for who in ("clipedu", source)))
            rows.append(
                {
                    "loss": loss,
                    "against": source,
                    "batch": batch,
                    "ours": ours,
                    "theirs": theirs,
                    "ratio": ours / theirs,
                }
            )
            times = (f"{1e3 * ours:.2f}", f"{1e3 * theirs:.2f}", f"**{ours / theirs:.2f}**")
            write(markdown_row([loss, source, str(batch), *times]))
    return rows


def _peaks(batch: int, dim: int, device: str, write: Callable[[str], None]) -> list[dict[str, Any]]:
    shared = {"batch": batch, "dim": dim, "device": device, "threads": torch.get_num_threads()}
    theirs = peak(source="open_clip", loss="clip", **shared)
    peer = ["open_clip ClipLoss", f"{theirs['bytes'] / 2**20:.0f}", "1", f"{theirs['seconds']:.1f}", "1"]
    table = markdown_table(["loss", "peak, MiB", "ratio", "seconds", "ratio"], [peer])
    write(f"\nPeak memory of one step at B {batch}, against open_clip's ClipLoss:\n\n{table}")
    rows = []
    for loss in LARGE:
        ours = peak(source="clipedu", loss=loss, **shared)
        row = {"loss": loss, "against": "open_clip", "batch": batch}
        row |= {"ours_bytes": ours["bytes"], "theirs_bytes": theirs["bytes"], "ours": ours["seconds"]}
        row |= {"theirs": theirs["seconds"], "ratio": ours["seconds"] / theirs["seconds"]}
        row["bytes_ratio"] = ours["bytes"] / theirs["bytes"]
        rows.append(row)
        memory = (f"{ours['bytes'] / 2**20:.0f}", f"**{row['bytes_ratio']:.3f}**")
        write(markdown_row([f"clipedu {loss}", *memory, f"{ours['seconds']:.1f}", f"**{row['ratio']:.2f}**"]))
    return rows
