"""`clipedu bench`: speed and memory beside a named peer."""

from __future__ import annotations

import argparse


def add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    """Add `bench` to the commands of a parser; `args.command(args)` runs it."""
    text = "measure speed and memory against named peers, in one run (losses: needs open_clip_torch)"
    parser = commands.add_parser("bench", help=text, description=text)
    parser.add_argument("what", choices=["losses", "norms", "data"])
    losses = parser.add_argument_group("losses")
    losses.add_argument("--batch-sizes", type=int, nargs="+", default=[128, 1024, 4096], metavar="B", help="for times")
    losses.add_argument("--dim", type=int, default=512, help="width of the embeddings (default 512)")
    losses.add_argument("--large", type=int, default=16_384, help="batch size for peak memory; 0 leaves it out")
    norms = parser.add_argument_group("norms and data")
    norms.add_argument("--batch-size", type=int, metavar="B", help="pairs in a step (default: norms 4, data 128)")
    norms.add_argument("--image-size", type=int, metavar="N", help="pixels (default: norms 64, data 224)")
    norms.add_argument("--images", type=int, default=1000, metavar="N", help="of data: how many (default 1000)")
    norms.add_argument("--tokens", type=int, default=16, metavar="L", help="in a caption (default 16)")
    parser.add_argument("--threads", type=int, help="threads of torch (default: torch's own choice)")
    parser.set_defaults(command=run_bench)
    return parser


def run_bench(args: argparse.Namespace) -> None:
    """Measure the losses, the norm monitor or the data loading."""
    if args.what == "norms":
        from clipedu.bench.norms import bench_norms

        sizes = {"image_size": args.image_size or 64, "tokens": args.tokens}
        bench_norms(args.batch_size or 4, **sizes, threads=args.threads)
        return
    if args.what == "data":
        from clipedu.bench.data import bench_data

        bench_data(args.images, image_size=args.image_size or 224, batch_size=args.batch_size or 128)
        return
    from clipedu.bench.losses import bench_losses

    bench_losses(args.batch_sizes, dim=args.dim, large=args.large, threads=args.threads)
