"""`clipedu data`: the data sets.

Each of `list | show | fetch | verify | cache | manifest` is a thin layer over a function of `clipedu.data`:
`sources.fetching.fetch`, `sources.verification.verify`, `prepare.prepare_cache`, `sources.shard_writer.write_shards`
and `write_manifest`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from clipedu.cli.arguments import path, whole, word
from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    from clipedu.data.sources.manifests import Manifest, Split
    from clipedu.data.sources.verification import Verified


def add_data(commands: argparse._SubParsersAction[Any]) -> argparse.ArgumentParser:
    """Add `data` to the commands of a parser; `args.command(args)` runs it."""
    text = "data sets: list, show, fetch, verify, cache, or describe your own"
    parser = commands.add_parser("data", help=text, description=text)
    what = parser.add_subparsers(title="what to do", required=True, metavar="WHAT")

    _add(what, "list", list_sets, "all sets, and which of them are here")
    _named(_add(what, "show", show_set, "where a set comes from, what is in it, its terms"))

    one = _named(
        _add(what, "fetch", fetch_set, "download a set from the hub; the same command resumes after an interruption")
    )
    one.add_argument("--subset", type=word, metavar="PART", help="a smaller part for a small disk, e.g. 10k")
    one.add_argument(
        "--folder", type=path, help="where to (default: $CLIPEDU_DATA/NAME, else ~/.cache/clipedu/data/NAME)"
    )
    one.add_argument("--yes", action="store_true", help="I have read the terms of the set and accept them")

    check = _named(
        _add(what, "verify", verify_set, "compare every byte with its checksum, decode every picture, count every pair")
    )
    check.add_argument("--folder", type=path, help="where the set is, if not in its default folder")
    check.add_argument(
        "--image-size", type=whole(), metavar="N", help="also compare the cache of this size with the shards"
    )
    check.add_argument("--resize", choices=["crop", "squash"], help="of that cache (default crop)")
    check.add_argument("--no-decode", action="store_true", help="compare and count only, which is faster")
    check.add_argument("--workers", type=whole(), metavar="N", help="processes that decode (default: one a core)")

    once = _named(_add(what, "cache", cache_set, "decode every image once, instead of in every training"))
    once.add_argument("--split", type=word, default="train", help="train (default), val or zeroshot")
    once.add_argument(
        "--image-size", type=whole(), default=224, metavar="N", help="pixels, as for training (default 224)"
    )
    once.add_argument(
        "--resize", default="crop", choices=["crop", "squash"], help="how images become square (default crop)"
    )
    once.add_argument("--workers", type=whole(), metavar="N", help="processes (default: one a core)")

    own = _add(
        what, "manifest", describe_own, "describe your own folder of shards, or make shards of images and captions"
    )
    own.add_argument("own", type=path, metavar="FOLDER", help="of .tar shards, or of images (with --captions)")
    own.add_argument(
        "--captions",
        type=path,
        metavar="FILE",
        help="a table with the columns image and caption (and split), or JSON: COCO's, Karpathy's, records",
    )
    own.add_argument("--folder", type=path, help="where the new shards go (default: $CLIPEDU_DATA/FOLDER's name)")
    return parser


def _add(
    what: argparse._SubParsersAction[Any],
    name: str,
    function: Callable[[argparse.Namespace], None],
    text: str,
) -> argparse.ArgumentParser:
    parser = what.add_parser(name, help=text, description=text)
    parser.set_defaults(command=function)
    return parser


def _named(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "name", type=word, metavar="NAME", help="of a set (see: clipedu data list), or a manifest or folder of yours"
    )
    return parser


def list_sets(args: argparse.Namespace) -> None:
    """Print all sets, and which of them are on this machine."""
    from clipedu.data.sources.fetching import PARTIAL, finished, set_folder
    from clipedu.data.sources.manifests import data_home, find_manifest, manifest_names

    print(f"Sets are in {data_home()}\n")
    print(f"{'name':<16} {'size':>8}  {'here':<6} about")
    for name in manifest_names():
        manifest = find_manifest(name)
        size = f"{manifest.gigabytes:.2g} GB" if manifest.gigabytes else "none"
        here = "drawn"
        if manifest.hub:
            folder = set_folder(name)
            parts = {"yes": manifest, **manifest.subsets}
            here = next((word for word, part in parts.items() if finished(part, folder)), "no")
            here = "begun" if here == "no" and (folder / PARTIAL).is_dir() else here
        print(f"{name:<16} {size:>8}  {here:<6} {manifest.about}")


def show_set(args: argparse.Namespace) -> None:
    """Print what a manifest says of a set."""
    from clipedu.data.sources.manifests import find_manifest

    manifest = find_manifest(args.name)
    print(f"{manifest.name}: {manifest.about}\n")
    if manifest.hub:
        gate = " (gated: accept its terms on its page and log in: hf auth login)" if manifest.gated else ""
        _fact("source", f"https://huggingface.co/datasets/{manifest.hub}, revision {manifest.revision}{gate}")
    if manifest.gigabytes:
        _fact("size", f"about {manifest.gigabytes:g} GB")
    for split, part in manifest.splits.items():
        _fact(split, _split_text(part))
    for name, subset in manifest.subsets.items():
        _fact("", f"with --subset {name}: about {subset.gigabytes:g} GB; train {_split_text(subset.splits['train'])}")
    if manifest.fields:
        _fact("holds", ", ".join(manifest.fields))
    _fact("why", manifest.why)
    _show_terms(manifest)
    for fact in manifest.unconfirmed:
        _fact("not sure", fact)


def _split_text(part: Split) -> str:
    tolerance = f" (+- {part.tolerance:.0%})" if part.tolerance else ""
    files = f"{len(part.files)} shards" if len(part.files) > 3 else ", ".join(part.files)
    listed = f": {', '.join(part.files)}" if len(part.files) > 3 else ""
    return f"{part.pairs:,} pairs{tolerance} in {files}{listed}"


def fetch_set(args: argparse.Namespace) -> None:
    """Download a set, once its terms are accepted."""
    from clipedu.data.sources.fetching import fetch, finished, set_folder
    from clipedu.data.sources.manifests import find_manifest
    from clipedu.utils.disk_space import size_text

    args.how_to_go_on = "The same command continues."
    manifest = find_manifest(args.name)
    folder = args.folder or set_folder(manifest.name)
    there = bool(manifest.hub) and finished(manifest.subset(args.subset), folder)
    if manifest.ask and not there:
        _show_terms(manifest)
        if not args.yes:
            _confirm(manifest.name)
    done = fetch(args.name, subset=args.subset, folder=args.folder, accept_terms=True)
    state = "is here already" if there else "is here, checked"
    print(f"{manifest.name} {state}: {done.files} files, {size_text(done.bytes)} in {done.folder}")
    if not there:
        where = "" if args.folder is None else f" --folder {args.folder}"
        print(f"Next: clipedu data verify {args.name}{where}, then clipedu train --data {args.folder or manifest.name}")


def verify_set(args: argparse.Namespace) -> None:
    """Check a set, and with --image-size its caches.

    Raises:
        ClipeduError: damaged or missing files, or a cache that differs from the shards.
    """
    from clipedu.data.sources.verification import verify
    from clipedu.utils.disk_space import size_text

    if args.resize is not None and args.image_size is None:
        raise ClipeduError(
            "--resize has no effect without --image-size: it says which cache is compared with the shards"
        )
    found = verify(args.name, folder=args.folder, decode=not args.no_decode, workers=args.workers)
    print(f"{found.folder}: {found.files} files, {size_text(found.bytes)}, {len(found.damaged)} damaged")
    for split, pairs in found.pairs.items():
        kinds = ", ".join(f"{count} with {kind}" for kind, count in found.fields[split].items() if kind != "image")
        _fact(split, f"{pairs} usable pairs" + (f" ({kinds})" if kinds else ""))
    if found.decoded is None:
        _fact("", "pictures were not decoded (--no-decode), so some of these may be left out in training")
    for line in found.left_out:
        _fact("left out", line)
    for line in found.remarks:
        _fact("note", line)
    for line in (*found.surprises, *(f"{file}: {what}" for file, what in found.damaged.items())):
        _fact("!", line)
    if found.damaged:
        again = f"get them again: clipedu data fetch {args.name}" if found.fetched else "put the right ones there"
        raise ClipeduError(f"{len(found.damaged)} files of {found.folder} are damaged or missing: {again}")
    if args.image_size is not None:
        _verify_caches(found, args)


def _verify_caches(found: Verified, args: argparse.Namespace) -> None:
    from clipedu.data.prepare import has_cache, verify_cache

    shape = {"image_size": args.image_size, "resize": args.resize or "crop"}
    splits = [split for split in found.pairs if has_cache(found.folder, split, **shape)]
    for split in splits or list(found.pairs)[:1]:  # of none, say how to make one
        check = verify_cache(found.folder, split, **shape)
        _fact(split, f"cache of {check.rows} images, {check.compared} decoded again, {len(check.problems)} problems")
        for problem in check.problems:
            _fact("!", problem)
        if check.problems:
            again = f"clipedu data cache {args.name} --split {split} --image-size {args.image_size} --resize {shape['resize']}"
            raise ClipeduError(f"the cache is not what the shards hold: delete {check.folder} and give: {again}")


def cache_set(args: argparse.Namespace) -> None:
    """Decode the images of a split into a cache."""
    from clipedu.data.prepare import prepare_cache
    from clipedu.utils.disk_space import size_text

    args.how_to_go_on = "The same command continues."
    shape = {"image_size": args.image_size, "resize": args.resize}
    done = prepare_cache(args.name, args.split, **shape, workers=args.workers, progress=True)
    print(
        f"{done.rows} images of {args.image_size} px, {size_text(done.bytes)} in {done.folder} ({done.seconds:.0f} s)"
    )
    for line in done.left_out:
        _fact("left out", line)
    if args.split == "train":
        squash = " --resize squash" * (args.resize == "squash")
        print(f"Next: clipedu train --data {args.name} --image-size {args.image_size}{squash} --train-size none")


def describe_own(args: argparse.Namespace) -> None:
    """Write a manifest of a folder of shards, or pack pairs into shards.

    Raises:
        ClipeduError: --folder without --captions, or a folder that cannot be described or packed.
    """
    from clipedu.data.sources.shard_writer import LEFT_OUT, write_manifest, write_shards

    if args.captions is None:
        if args.folder is not None:
            raise ClipeduError("--folder goes with --captions: a folder of shards is described where it is")
        print(f"Written: {write_manifest(args.own)}")
        print(f"Next: clipedu data verify {args.own}, which decodes every picture and says what is left out")
        return
    done = write_shards(args.own, args.captions, folder=args.folder)
    print(f"{done.images} images with {done.captions} captions: shards and manifest are in {done.folder}")
    for note in done.notes:
        _fact("captions", note)
    if done.left_out:
        _fact("left out", f"{len(done.left_out)} rows, all in {done.folder / LEFT_OUT}")
    for kind, count in done.reasons().items():
        examples = [str(row) for row in done.left_out if row.kind == kind][:3]
        _fact("", f"{count} {kind}, e.g. {'; '.join(examples)}")
    print(f"Next: clipedu train --data {shlex.quote(str(args.folder or done.folder.name))}")


def _show_terms(manifest: Manifest) -> None:
    _fact("licence", manifest.licence or "not stated")
    _fact("terms", manifest.terms)
    _fact("", manifest.url)


def _fact(what: str, text: str) -> None:
    """Print a fact with its name in a column of its own, unless it is empty."""
    if text:
        print(
            textwrap.fill(
                " ".join(text.split()),
                118,
                initial_indent=f"{what:<10}",
                subsequent_indent=" " * 10,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )


def _confirm(name: str) -> None:
    if not sys.stdin.isatty():
        raise ClipeduError(f"{name} has terms, shown above: accept them with --yes")
    try:
        answer = input("Do you accept these terms? [yes/no] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise ClipeduError(f"the terms of {name} were not accepted: nothing was fetched")
