"""`clipedu data list | show | fetch | verify | cache | manifest`: data sets as a person handles them.

Each is a thin layer over a function: `clipedu.data.sources.fetching.fetch`, `clipedu.data.sources.verification.verify`, `clipedu.data.prepare.prepare_cache`,
`clipedu.data.sources.shard_writer.write_shards` and `write_manifest`.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

from clipedu.utils.errors import ClipeduError


def add_data(commands) -> argparse.ArgumentParser:
    """Add `data` to the sub-commands of an argument parser; `given.command(given)` runs it."""
    text = "data sets: list, show, fetch, verify, cache, or describe your own"
    parser = commands.add_parser("data", help=text, description=text)
    what = parser.add_subparsers(title="what to do", required=True, metavar="WHAT")

    _add(what, "list", list_sets, "all sets, and which of them are here")
    _named(_add(what, "show", show_set, "where a set comes from, what is in it, its terms"))

    one = _named(_add(what, "fetch", fetch_set, "get a set from the hub; the same command goes on after a cut"))
    one.add_argument("--subset", metavar="PART", help="a smaller part for a small disk, e.g. 10k")
    one.add_argument(
        "--folder", type=Path, help="where it is to lie (default: $CLIPEDU_DATA/NAME, else ~/.cache/clipedu/data/NAME)"
    )
    one.add_argument("--yes", action="store_true", help="I have read the terms of the set and accept them")

    check = _named(_add(what, "verify", verify_set, "compare every byte with its checksum and count every pair"))
    check.add_argument("--folder", type=Path, help="where the set lies, if not in its usual place")
    check.add_argument(
        "--image-size", type=int, metavar="N", help="also prove the cache of this size against the shards"
    )
    check.add_argument("--resize", default="crop", choices=["crop", "squash"], help="of that cache (default crop)")

    once = _named(_add(what, "cache", cache_set, "decode every image once, so that no training has to"))
    once.add_argument("--split", default="train", help="train (default), val or zeroshot")
    once.add_argument("--image-size", type=int, default=224, metavar="N", help="pixels, as for training (default 224)")
    once.add_argument(
        "--resize", default="crop", choices=["crop", "squash"], help="how images become square (default crop)"
    )
    once.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")

    own = _add(
        what, "manifest", describe_own, "describe your own folder of shards, or make shards of images and captions"
    )
    own.add_argument("own", type=Path, metavar="FOLDER", help="of .tar shards, or of images (with --captions)")
    own.add_argument(
        "--captions", type=Path, metavar="CSV", help="a table with the columns image and caption (and split)"
    )
    own.add_argument("--folder", type=Path, help="where the new shards go (default: $CLIPEDU_DATA/FOLDER's name)")
    return parser


def _add(what, name: str, function, text: str) -> argparse.ArgumentParser:
    parser = what.add_parser(name, help=text, description=text)
    parser.set_defaults(command=function)
    return parser


def _named(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument(
        "name", metavar="NAME", help="of a set (see: clipedu data list), or a manifest or folder of yours"
    )
    return parser


def list_sets(given: argparse.Namespace) -> None:
    from clipedu.data.sources.fetching import PARTIAL, finished, set_folder
    from clipedu.data.sources.manifests import data_home, find_manifest, manifest_names

    print(f"Sets lie in {data_home()}\n")
    print(f"{'name':<16} {'size':>8}  {'here':<6} about")
    for name in manifest_names():
        manifest = find_manifest(name)
        size = f"{manifest.gigabytes:.2g} GB" if manifest.gigabytes else "none"
        here = "drawn"
        if manifest.hub:
            folder = set_folder(name)
            parts = {"yes": manifest, **manifest.subsets}
            here = next((told for told, part in parts.items() if finished(part, folder)), "no")
            here = "begun" if here == "no" and (folder / PARTIAL).is_dir() else here
        print(f"{name:<16} {size:>8}  {here:<6} {manifest.about}")


def show_set(given: argparse.Namespace) -> None:
    from clipedu.data.sources.manifests import find_manifest

    manifest = find_manifest(given.name)
    print(f"{manifest.name}: {manifest.about}\n")
    if manifest.hub:
        gate = " (gated: accept its terms on its page and log in: hf auth login)" if manifest.gated else ""
        _fact("source", f"https://huggingface.co/datasets/{manifest.hub}, revision {manifest.revision}{gate}")
    if manifest.gigabytes:
        _fact("size", f"about {manifest.gigabytes:g} GB")
    for split, part in manifest.splits.items():
        _fact(split, _split_text(part))
    for name, part in manifest.subsets.items():
        _fact("", f"with --subset {name}: about {part.gigabytes:g} GB; train {_split_text(part.splits['train'])}")
    if manifest.fields:
        _fact("holds", ", ".join(manifest.fields))
    _fact("why", manifest.why)
    _show_terms(manifest)
    for fact in manifest.unconfirmed:
        _fact("not sure", fact)


def _split_text(part) -> str:
    give = f" (+- {part.tolerance:.0%})" if part.tolerance else ""
    files = f"{len(part.files)} shards" if len(part.files) > 3 else ", ".join(part.files)
    listed = f": {', '.join(part.files)}" if len(part.files) > 3 else ""
    return f"{part.pairs:,} pairs{give} in {files}{listed}"


def fetch_set(given: argparse.Namespace) -> None:
    from clipedu.data.sources.fetching import fetch, finished, set_folder
    from clipedu.data.sources.manifests import find_manifest
    from clipedu.utils.disk_space import size_text

    given.how_to_go_on = "The same command goes on."
    manifest = find_manifest(given.name)
    folder = given.folder or set_folder(manifest.name)
    there = bool(manifest.hub) and finished(manifest.subset(given.subset), folder)
    if manifest.ask and not there:
        _show_terms(manifest)
        if not given.yes:
            _confirm(manifest.name)
    done = fetch(given.name, subset=given.subset, folder=given.folder, accept_terms=True)
    told = "is here already" if there else "is here, checked"
    print(f"{manifest.name} {told}: {done.files} files, {size_text(done.bytes)} in {done.folder}")
    if not there:
        where = "" if given.folder is None else f" --folder {given.folder}"
        print(
            f"Next: clipedu data verify {given.name}{where}, then clipedu train --data {given.folder or manifest.name}"
        )


def verify_set(given: argparse.Namespace) -> None:
    from clipedu.data.sources.verification import verify
    from clipedu.utils.disk_space import size_text

    found = verify(given.name, folder=given.folder)
    print(f"{found.folder}: {found.files} files, {size_text(found.bytes)}, {len(found.damaged)} damaged")
    for split, pairs in found.pairs.items():
        kinds = ", ".join(f"{count} with {kind}" for kind, count in found.fields[split].items() if kind != "image")
        _fact(split, f"{pairs} usable pairs" + (f" ({kinds})" if kinds else ""))
    for reason, count in found.skipped.items():
        _fact("left out", f"{count}: {reason}")
    for line in (*found.surprises, *found.damaged):
        _fact("!", line)
    if found.damaged:
        again = f"get them again: clipedu data fetch {given.name}" if found.fetched else "put the right ones there"
        raise ClipeduError(f"{len(found.damaged)} files of {found.folder} are damaged or missing: {again}")
    if given.image_size is not None:
        _verify_caches(found, given)


def _verify_caches(found, given: argparse.Namespace) -> None:
    from clipedu.data.prepare import has_cache, verify_cache

    shape = {"image_size": given.image_size, "resize": given.resize}
    splits = [split for split in found.pairs if has_cache(found.folder, split, **shape)]
    for split in splits or list(found.pairs)[:1]:  # of none, say how to make one
        check = verify_cache(found.folder, split, **shape)
        _fact(split, f"cache of {check.rows} images, {check.compared} decoded again, {len(check.problems)} problems")
        for problem in check.problems:
            _fact("!", problem)
        if check.problems:
            again = f"clipedu data cache {given.name} --split {split} --image-size {given.image_size} --resize {given.resize}"
            raise ClipeduError(f"the cache is not what the shards hold: delete {check.folder} and give: {again}")


def cache_set(given: argparse.Namespace) -> None:
    from clipedu.data.prepare import prepare_cache
    from clipedu.utils.disk_space import size_text

    given.how_to_go_on = "The same command goes on."
    shape = {"image_size": given.image_size, "resize": given.resize}
    done = prepare_cache(given.name, given.split, **shape, workers=given.workers, progress=True)
    print(
        f"{done.rows} images of {given.image_size} px, {size_text(done.bytes)} in {done.folder} ({done.seconds:.0f} s)"
    )
    _left_out([": ".join(dropped) for dropped in done.dropped])
    if given.split == "train":
        squash = " --resize squash" * (given.resize == "squash")
        print(f"Next: clipedu train --data {given.name} --image-size {given.image_size}{squash} --train-size none")


def describe_own(given: argparse.Namespace) -> None:
    from clipedu.data.sources.shard_writer import write_manifest, write_shards

    if given.captions is None:
        if given.folder is not None:
            raise ClipeduError("--folder goes with --captions: a folder of shards is described where it lies")
        print(f"Written: {write_manifest(given.own)}")
        return
    done = write_shards(given.own, given.captions, folder=given.folder)
    print(f"{done.images} images with {done.captions} captions: shards and manifest are in {done.folder}")
    _left_out(done.dropped)


def _left_out(lines: list[str]) -> None:
    for line in lines[:10]:
        _fact("left out", line)
    if len(lines) > 10:
        _fact("left out", f"... {len(lines)} in all")


def _show_terms(manifest) -> None:
    _fact("licence", manifest.licence or "not stated")
    _fact("terms", manifest.terms)
    _fact("", manifest.url)


def _fact(what: str, text: str) -> None:
    """One fact, its name in a column of its own; nothing for an empty one."""
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
