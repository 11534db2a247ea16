"""`clipedu bench`: speed and memory beside a named peer."""

from __future__ import annotations

import argparse
from typing import Any

from clipedu.cli.arguments import given_options, whole

OPTIONS = {
    "losses": ("batch_sizes", "dim", "large", "threads"),
    "norms": ("batch_size", "image_size", "tokens", "threads"),
    "data": ("images", "image_size", "batch_size"),
    "retrieval": ("images", "dim", "threads"),
    "train": ("cases", "rounds", "fused"),
    "heads": ("settings", "sample", "rounds", "threads"),
}
"""The options of each benchmark. Others are refused."""


def add_bench(commands: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add `bench` to the commands of a parser; `args.command(args)` runs it."""
    text = "measure speed and memory against named peers, in one run (losses, train: need open_clip_torch)"
    parser = commands.add_parser("bench", help=text, description=text)
    parser.add_argument("what", choices=list(OPTIONS))
    losses = parser.add_argument_group("losses and retrieval")
    losses.add_argument(
        "--batch-sizes",
        type=whole(2),
        nargs="+",
        action="extend",
        metavar="B",
        help="of losses: for times (default 128 1024 4096)",
    )
    losses.add_argument("--dim", type=whole(), help="width of the embeddings (default: losses 512, retrieval 256)")
    losses.add_argument(
        "--large", type=whole(0), help="of losses: batch size for peak memory; 0 leaves it out (default 16384)"
    )
    norms = parser.add_argument_group("norms, data and retrieval")
    norms.add_argument("--batch-size", type=whole(), metavar="B", help="pairs in a step (default: norms 4, data 128)")
    norms.add_argument("--image-size", type=whole(), metavar="N", help="pixels (default: norms 64, data 224)")
    norms.add_argument(
        "--images",
        type=whole(),
        metavar="N",
        help="of data and retrieval: how many (default: data 1000, retrieval 5000)",
    )
    norms.add_argument("--tokens", type=whole(), metavar="L", help="of norms: in a caption (default 16)")
    parser.add_argument(
        "--threads",
        type=whole(),
        help="of losses, norms, retrieval and heads: threads of torch (default: torch's own choice; heads one, then two)",
    )
    heads = parser.add_argument_group("heads")
    heads.add_argument("--settings", type=whole(), metavar="N", help="how many, in stacks (default 64)")
    heads.add_argument("--sample", type=whole(), metavar="N", help="how many of them as single runs (default 8)")
    parser.add_argument(
        "--rounds", type=whole(), help="of train and heads: turns of each way (default: 3 to 20; heads 2)"
    )
    train = parser.add_argument_group("train")
    train.add_argument(
        "--cases",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="laptop, photographs, frozen, course (default: those that fit the machine)",
    )
    train.add_argument("--fused", action="store_true", default=None, help="ours with AdamW(fused=True) too")
    parser.set_defaults(command=run_bench)
    return parser


def run_bench(args: argparse.Namespace) -> None:
    """Measure losses, the norm monitor, data, retrieval, training or heads.

    Raises:
        ClipeduError: an option that has no effect on what is measured.
    """
    given = given_options(args, OPTIONS[args.what], f"bench {args.what}")
    if args.what == "norms":
        from clipedu.bench.norms import bench_norms

        bench_norms(**given)
    elif args.what == "data":
        from clipedu.bench.data import bench_data

        bench_data(**given)
    elif args.what == "retrieval":
        from clipedu.bench.retrieval import bench_retrieval

        bench_retrieval(**given)
    elif args.what == "train":
        from clipedu.bench.train import bench_train

        bench_train(**given)
    elif args.what == "heads":
        from clipedu.bench.heads import bench_heads
        from clipedu.workflow import fit, fit_heads

        if "threads" in given:
            given["threads"] = (given["threads"],)
        bench_heads(fit, fit_heads, **given)
    else:
        from clipedu.bench.losses import bench_losses

        bench_losses(**given)
