"""`clipedu bench retrieval`: recall both ways, beside one matrix product.

Unit embeddings of N images and five captions each, as COCO's 5,000 and 25,000; the contenders take turns:

    product   one product of the embeddings, the least that similarities of all pairs can cost
    clipedu   `retrieval`: ranks in both directions, and recall at 1, 5 and 10
    course    the course's evaluation typed out: similarities as a whole, an argsort of each row and of each column

Peak memory is that of one call in a fresh process, above the embeddings. Scores of the last two must agree.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipedu.bench.measure import in_fresh_process, in_turn, machine, peak_here, print_line
from clipedu.evaluation.recall import retrieval
from clipedu.geometry import build_geometry
from clipedu.utils.errors import ClipeduError
from clipedu.utils.markdown import markdown_row, markdown_table

CONTENDERS = ("product", "clipedu", "course")
CAPTIONS = 5  # of an image
KS = (1, 5, 10)


def bench_retrieval(
    images: int = 5000,
    *,
    dim: int = 256,
    threads: int | None = None,
    write: Callable[[str], None] = print_line,
) -> list[dict[str, Any]]:
    """Measure, write a Markdown table, and return its rows.

    Args:
        images: how many, N; there are five captions of each.
        dim: width of the embeddings, D.
        threads: of torch; None keeps the current number.
        write: called with each line; prints by default.

    Returns:
        for each of `CONTENDERS`: contender, seconds, bytes (at the peak, above the embeddings), and ratio (seconds / those of
        the product).

    Raises:
        ClipeduError: a size below 1, or scores of clipedu and the course that differ.
    """
    for name, value in (("images", images), ("dim", dim), ("threads", threads)):
        if value is not None and value < 1:
            raise ClipeduError(f"{name} must be at least 1, got {value}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        write(_header(images, dim, device))
        ours, theirs = (call_of(name, images, dim, device)() for name in ("clipedu", "course"))
        if differing := {key for key in theirs if abs(ours[key] - theirs[key]) > 1e-9}:
            key = min(differing)
            raise ClipeduError(f"{key} is {ours[key]} by clipedu and {theirs[key]} by the course's loop")
        seconds = in_turn(*(_waiting(call_of(name, images, dim, device), device) for name in CONTENDERS))
        held = [
            in_fresh_process(
                "clipedu.bench.retrieval",
                {"name": name, "images": images, "dim": dim, "device": device, "threads": torch.get_num_threads()},
                f"{name} with {images} images",
            )["bytes"]
            for name in CONTENDERS
        ]
    finally:
        torch.set_num_threads(before)
    write(markdown_table(["contender", "seconds", "of the product", "course / this", "peak memory, MiB"], []))
    rows = []
    for name, time, peak in zip(CONTENDERS, seconds, held, strict=True):
        rows.append({"contender": name, "seconds": time, "bytes": peak, "ratio": time / seconds[0]})
        of_course = f"{seconds[-1] / time:.1f}"
        write(markdown_row([name, f"{time:.3f}", f"**{time / seconds[0]:.2f}**", of_course, f"{peak / 2**20:,.0f}"]))
    return rows


def call_of(name: str, images: int, dim: int, device: str) -> Callable[[], dict[str, float]]:
    """Return a function that runs a contender once, on random embeddings.

    Args:
        name: of `CONTENDERS`.
        images: N; each has five captions, somewhat nearer to it than to others.
        dim: width of the embeddings, D.
        device: "cpu" or "cuda".
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(images, dim, generator=generator)
    text = torch.randn(CAPTIONS * images, dim, generator=generator) + 0.2 * image.repeat_interleave(CAPTIONS, 0)
    image, text = normalize(image).to(device), normalize(text).to(device)
    owner = torch.arange(images, device=device).repeat_interleave(CAPTIONS)
    if name == "clipedu":
        cosine = build_geometry("cosine", dim)
        return lambda: retrieval(image, text, owner, cosine, KS)
    if name == "course":
        return lambda: course_retrieval(image, text)
    return lambda: {"largest": (image @ text.T)[0, 0].item()}


def course_retrieval(image: Tensor, text: Tensor) -> dict[str, float]:
    """Compute recall as the course does, by an argsort of each row.

    Args:
        image: unit vectors [N, D].
        text: unit vectors [5 N, D], five captions of each image in turn.
    """
    table = (image @ text.T).cpu().numpy()
    ranks = np.zeros(len(table))
    for row, scores in enumerate(table):
        order = np.argsort(scores)[::-1]
        ranks[row] = min(np.where(order == own)[0][0] for own in range(CAPTIONS * row, CAPTIONS * (row + 1)))
    result = {f"tr@{k}": 100 * float((ranks < k).mean()) for k in KS}
    ranks = np.zeros(table.shape[1])
    for column, scores in enumerate(table.T):
        order = np.argsort(scores)[::-1]
        ranks[column] = np.where(order == column // CAPTIONS)[0][0]
    return result | {f"ir@{k}": 100 * float((ranks < k).mean()) for k in KS}


def measure_here(name: str, images: int, dim: int, device: str, threads: int) -> dict[str, float]:
    """Measure one call of a contender in this process, a fresh one.

    Args:
        name, images, dim, device: see `call_of`.
        threads: of torch.

    Returns:
        `bytes` at the peak above the embeddings, and `seconds`.
    """
    torch.set_num_threads(threads)
    small = _waiting(call_of(name, 8, dim, device), device)
    return peak_here(_waiting(call_of(name, images, dim, device), device), small, device)


def _waiting(call: Callable[[], Any], device: str) -> Callable[[], None]:
    def run() -> None:
        call()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def _header(images: int, dim: int, device: str) -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("clipedu", "torch", "numpy"))
    return (
        f"{machine(device)}, {torch.get_num_threads()} of {os.cpu_count()} threads; {versions}, Python "
        f"{platform.python_version()}. {images:,} images and {CAPTIONS * images:,} captions, D = {dim}, float32.\n"
    )


if __name__ == "__main__":
    print(json.dumps(measure_here(**json.loads(sys.argv[1]))))
