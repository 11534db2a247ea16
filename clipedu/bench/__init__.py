"""How fast, and in how much memory: ours against a named peer, side by side in one run on the same machine.

A time alone says more about the machine than about the code. So every number here stands beside that of a peer that was
measured in turn with it, and it is the ratio that counts:

    $ clipedu bench losses
"""

from __future__ import annotations

import argparse

__all__ = ["add_bench"]


def add_bench(commands) -> argparse.ArgumentParser:
    """Add `bench` to the sub-commands of an argument parser; `given.command(given)` runs it."""
    text = "measure speed and memory against named peers, in one run (needs open_clip_torch)"
    parser = commands.add_parser("bench", help=text, description=text)
    parser.add_argument("what", choices=["losses"])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[128, 1024, 4096], metavar="B", help="for times")
    parser.add_argument("--dim", type=int, default=512, help="width of the embeddings (default 512)")
    parser.add_argument("--large", type=int, default=16_384, help="batch size for peak memory; 0 leaves it out")
    parser.add_argument("--threads", type=int, help="threads of torch (default: as many as it takes by itself)")
    parser.set_defaults(command=run_bench)
    return parser


def run_bench(given: argparse.Namespace) -> None:
    from clipedu.bench.losses import bench_losses

    bench_losses(given.batch_sizes, dim=given.dim, large=given.large, threads=given.threads)
