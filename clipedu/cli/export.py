"""`clipedu export`: a model for transformers, open_clip, timm or ONNX."""

from __future__ import annotations

import argparse
from typing import Any

from clipedu.cli.arguments import path, word
from clipedu.utils.errors import ClipeduError


def add_export(commands: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add `export` to the commands of a parser; `args.command(args)` runs it."""
    text = "write a model in the form of transformers, open_clip, timm or ONNX, with a model card; publish it"
    parser = commands.add_parser(
        "export", help=text, description=text, epilog="An example: clipedu export runs/mine --to transformers"
    )
    parser.add_argument(
        "model",
        type=word,
        metavar="MODEL",
        help="a finished run's folder, or a released model: open_clip:NAME, hf:OWNER/NAME, a folder or file",
    )
    parser.add_argument(
        "--to", type=word, metavar="transformers|open_clip|timm|onnx", help="needed; timm takes the image tower alone"
    )
    parser.add_argument(
        "--out", type=path, metavar="FOLDER", help="new or empty (default: RUN/export-TO, or runs/export-MODEL-TO)"
    )
    parser.add_argument(
        "--weights", type=word, metavar="TAG|FILE|random", help="of a released model, as in `clipedu evaluate`"
    )
    parser.add_argument(
        "--checkpoint",
        choices=("last", "best"),
        default="last",
        help="of a run: last (default), or the best by the scores during training, with --evaluate-every",
    )
    parser.add_argument(
        "--averaged", action="store_true", help="of a run: the moving average of the weights, with --ema-decay"
    )
    parser.add_argument(
        "--projection", action="store_true", help="with --to timm: with the projection, as the tower's classifier"
    )
    parser.add_argument(
        "--licence",
        "--license",
        type=word,
        metavar="NAME",
        help="of the weights, for the card: mit, cc-by-nc-4.0, ... (default: unknown; it depends on what they were trained on)",
    )
    parser.add_argument(
        "--push-to-hub", type=word, metavar="OWNER/NAME", help="publish it on the Hugging Face Hub too, in one commit"
    )
    parser.add_argument("--private", action="store_true", help="with --push-to-hub: a repository for you alone")
    parser.set_defaults(command=export)
    return parser


def export(args: argparse.Namespace) -> None:
    """Export a model; print what was written, and how to load it."""
    from clipedu.exports.writing import export as write

    if args.to is None:  # not by argparse, which would not look at a mistyped option then
        raise ClipeduError("which library is it for? Give --to transformers, open_clip, timm or onnx")
    done = write(
        args.model,
        args.to,
        args.out,
        weights=args.weights,
        checkpoint=args.checkpoint,
        averaged=args.averaged,
        projection=args.projection,
        licence=args.licence,
        push_to_hub=args.push_to_hub,
        private=args.private,
    )
    print(
        f"{done.folder}: {done.size / 1e6:.1f} MB, loaded again by {args.to} with equal embeddings. Its card: README.md"
    )
    if args.licence is None:
        print("The card says that the licence is unknown. To name one: --licence NAME")
    if done.page is not None:
        print(f"Published: {done.page}")
    print(f"\n{done.code}")
