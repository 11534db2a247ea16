"""How fast, and in how much memory: ours against a named peer, side by side in one run on the same machine.

A time alone says more about the machine than about the code. So every number here stands beside that of a peer that was
measured in turn with it, and it is the ratio that counts:

    $ clipedu bench losses      each loss against open_clip's and the course's
    $ clipedu bench norms       watching every layer's norms, against a loop that does the same
"""

from __future__ import annotations

import argparse

__all__ = ["add_bench"]


def add_bench(commands) -> argparse.ArgumentParser:
    """Add `bench` to the sub-commands of an argument parser; `given.command(given)` runs it."""
    text = "measure speed and memory against named peers, in one run (losses: needs open_clip_torch)"
    parser = commands.add_parser("bench", help=text, description=text)
    parser.add_argument("what", choices=["losses", "norms"])
    losses = parser.add_argument_group("losses")
    losses.add_argument("--batch-sizes", type=int, nargs="+", default=[128, 1024, 4096], metavar="B", help="for times")
    losses.add_argument("--dim", type=int, default=512, help="width of the embeddings (default 512)")
    losses.add_argument("--large", type=int, default=16_384, help="batch size for peak memory; 0 leaves it out")
    norms = parser.add_argument_group("norms")
    norms.add_argument("--batch-size", type=int, default=4, metavar="B", help="pairs in a step (default 4)")
    norms.add_argument("--image-size", type=int, default=64, metavar="N", help="pixels (default 64)")
    norms.add_argument("--tokens", type=int, default=16, metavar="L", help="in a caption (default 16)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: as many as it takes by itself)")
    parser.set_defaults(command=run_bench)
    return parser


def run_bench(given: argparse.Namespace) -> None:
    if given.what == "norms":
        from clipedu.bench.norms import bench_norms

        bench_norms(given.batch_size, image_size=given.image_size, tokens=given.tokens, threads=given.threads)
        return
    from clipedu.bench.losses import bench_losses

    bench_losses(given.batch_sizes, dim=given.dim, large=given.large, threads=given.threads)
