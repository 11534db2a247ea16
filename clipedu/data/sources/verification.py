"""Verify a data set: check every checksum and count every pair.

A disk can damage a file later; a set can be as the Hub has it and not as its card says. So `verify` reads everything:
files against the checksums of `fetched.json` (or of your own manifest.toml), in each shard the samples that can be rows, and
their pictures, which it decodes. The result is kept as `verified.json` in the set's folder. A damaged file of a fetched set is marked, so that the
next `clipedu data fetch` downloads it again.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clipedu.data.shards.left_out import kind_of, one_line, summary
from clipedu.data.shards.peers import peer_troubles
from clipedu.data.shards.samples import shard_names, shard_paths, usable
from clipedu.data.shards.tar_reader import Sample
from clipedu.data.sources.fetching import RECORD, set_folder
from clipedu.data.sources.hub_files import digest_of
from clipedu.data.sources.manifests import OWN, Manifest, find_manifest
from clipedu.data.sources.picture_check import Pictures, check_pictures
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import read_json, write_json

FOUND = "verified.json"
NAMED = 3  # pictures that a line names


@dataclass
class Verified:
    """The result of `verify`.

    Attributes:
        folder: of the set.
        fetched: whether it came from a hub, so that it can be fetched again.
        files: how many were compared with their checksums.
        bytes: of these files together.
        damaged: file -> what is wrong with it.
        pairs: usable samples by split.
        fields: samples with an image, with captions, with a class; by split.
        decoded: how many pictures were decoded; None if that was not asked for, so that `pairs` are those with files.
        letterboxes: pictures with plain borders on two sides; by split.
        plain: pictures of one colour; by split.
        skipped: by reason, how many samples cannot be used.
        left_out: the same as lines, with examples.
        surprises: one line for each count that is not as expected, each shard that is not used or that the manifest does
            not name, and pictures that do not decode.
        remarks: one line for each thing to know of the usable pairs: odd pictures, files that are not read, and what
            other readers of shards cannot read.
    """

    folder: str
    fetched: bool = False
    files: int = 0
    bytes: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    pairs: dict[str, int] = field(default_factory=dict)
    fields: dict[str, dict[str, int]] = field(default_factory=dict)
    decoded: int | None = None
    letterboxes: dict[str, int] = field(default_factory=dict)
    plain: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def verify(
    name: str | os.PathLike,
    *,
    folder: str | os.PathLike | None = None,
    decode: bool = True,
    workers: int | None = None,
    progress: bool = True,
) -> Verified:
    """Read a whole data set and compare it with its manifest.

    Args:
        name: of a set that was fetched, a .toml manifest, or a folder that has a manifest.toml.
        folder: of the set, if not in its usual place.
        decode: also decode every picture, as training does.
        workers: processes that decode; None takes all cores where that is faster.
        progress: show bars.
    Raises:
        ClipeduError: no such set, it is not there, or `workers` is below 1.
    """
    manifest = find_manifest(name)
    target = Path(folder).expanduser() if folder is not None else _folder(name, manifest)
    record = read_json(target / RECORD)
    expected = _expected(manifest, record, target)
    found = Verified(str(target), bool(record), decoded=0 if decode else None)
    _compare(expected, target, found, progress)
    if record:
        for file in expected:
            record["files"][file].pop("damaged", None)
            if file in found.damaged:
                record["files"][file]["damaged"] = True
        write_json(target / RECORD, record)
    _count(manifest.subset(record.get("subset")), target, found, workers, progress)
    foreign = {path.relative_to(target).as_posix() for path in shard_paths(target)} - set(expected)
    found.surprises += [f"{name}: not in the manifest" for name in sorted(foreign)]
    write_json(target / FOUND, asdict(found))
    return found


def _folder(name: str | os.PathLike, manifest: Manifest) -> Path:
    path = Path(name).expanduser()
    if (path / OWN).is_file():
        return path
    return set_folder(manifest.name)


def _expected(manifest: Manifest, record: dict, target: Path) -> dict[str, tuple[int, str]]:
    """Return file -> size and checksum."""
    if record:
        return {file: (entry["size"], entry["digest"]) for file, entry in record["files"].items()}
    if manifest.hub or manifest.name == "scenes":
        what = f"is not in {target}: fetch it with: clipedu data fetch {manifest.name}"
        if manifest.name == "scenes":
            what = "is drawn when it is used: there is nothing to verify"
        raise ClipeduError(f"{manifest.name} {what}")
    for file in manifest.files:
        if file not in manifest.sizes or file not in manifest.sha256:
            raise ClipeduError(
                f"{target / OWN} has no size and sha256 of {file}: write it anew (clipedu data manifest {target})"
            )
    return {file: (manifest.sizes[file], f"sha256-{manifest.sha256[file]}") for file in manifest.files}


def _compare(expected: dict[str, tuple[int, str]], target: Path, found: Verified, progress: bool) -> None:
    from tqdm.auto import tqdm

    def trouble(file: str) -> str:
        path, (size, digest) = target / file, expected[file]
        if not path.is_file():
            return "missing"
        if path.stat().st_size != size:
            return f"{path.stat().st_size} bytes, not {size}"
        try:
            return "" if digest_of(path, digest) == digest else "other contents, its checksum differs"
        except OSError as error:
            return f"cannot be read ({error.strerror})"

    total = sum(size for size, _ in expected.values())
    with (
        ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool,
        tqdm(desc="checksums", total=total, unit="B", unit_scale=True, disable=not progress, delay=2) as bar,
    ):
        for file, what in zip(expected, pool.map(trouble, expected), strict=True):
            bar.update(expected[file][0])
            if what:
                found.damaged[file] = what
    found.files, found.bytes = len(expected), total


def _count(manifest: Manifest, target: Path, found: Verified, workers: int | None, progress: bool) -> None:
    left_out: list[tuple[str, str]] = []
    unused: dict[str, None] = {}
    others: Counter[str] = Counter()
    for split, expected in manifest.splits.items():
        try:
            shards, of_no_split = shard_names(target, split)
        except ClipeduError as error:
            found.surprises.append(str(error))
            continue
        unused.update(dict.fromkeys(of_no_split))
        samples = _read(split, shards, progress)
        good = [sample for sample in samples if not sample.trouble]
        left_out += [(_where(sample), one_line(sample.trouble)) for sample in samples if sample.trouble]
        failed: dict[int, str] = {}
        if found.decoded is not None:
            pictures = check_pictures(good, split, workers, progress)
            failed = pictures.failed
            left_out += [(_where(good[place]), one_line(why)) for place, why in failed.items()]
            found.decoded += len(good) - len(failed)
            found.letterboxes[split], found.plain[split] = len(pictures.letterboxes), len(pictures.plain)
            found.surprises += _broken(split, good, list(failed))
            found.remarks += _looks(split, good, pictures)
        rows = [sample for place, sample in enumerate(good) if place not in failed]
        kinds: Counter[str] = Counter()
        for sample in rows:
            kinds.update(["image"] + ["captions"] * bool(sample.captions) + ["class"] * (sample.label is not None))
            others.update(one_line(f".{extension}") for extension in sample.others)
        found.pairs[split], found.fields[split] = len(rows), dict(kinds)
        if not any(map(expected.expects, (len(rows), len(good)))):  # a manifest may count pictures that don't decode
            give = f", {expected.tolerance:.0%} more or less" if expected.tolerance else ""
            found.surprises.append(f"{split}: {len(rows)} usable pairs, {expected.pairs} were expected{give}")
        found.remarks += [f"{split}: {line}" for line in peer_troubles(shards)]
    if others:
        most = ", ".join(f"{count} {extension[:30]}" for extension, count in others.most_common(5))
        found.remarks.append(f"{others.total()} other files of usable pairs are not read: {most}")
    found.surprises += unused
    found.left_out = summary(left_out)
    found.skipped = dict(Counter(kind_of(why) for _, why in left_out).most_common())


def _read(split: str, shards: dict[str, Path], progress: bool) -> list[Sample]:
    from tqdm.auto import tqdm

    total = sum(path.stat().st_size for path in shards.values())
    with tqdm(desc=f"counting {split}", total=total, unit="B", unit_scale=True, disable=not progress, delay=2) as bar:
        return list(usable(shards, None, bar.update))


def _broken(split: str, good: list[Sample], failed: list[int]) -> list[str]:
    if not failed:
        return []
    return [f"{split}: {len(failed)} of {len(good)} pictures do not decode, {_first(good, failed)}"]


def _looks(split: str, good: list[Sample], pictures: Pictures) -> Iterator[str]:
    """Yield what is odd about pictures that do decode."""
    looked = f"of {len(good) - len(pictures.failed)} pictures"
    if boxed := pictures.letterboxes:
        yield (
            f"{split}: {len(boxed)} {looked} have letterboxes, plain borders on two sides (as img2dataset makes them by "
            f"default, resize_mode='border'), {_first(good, boxed)}"
        )
    if plain := pictures.plain:
        yield f"{split}: {len(plain)} {looked} show one plain colour and nothing else, {_first(good, plain)}"


def _where(sample: Sample) -> str:
    return one_line(sample.shard + f": {sample.key}" * bool(sample.key))


def _first(samples: list[Sample], places: list[int]) -> str:
    return f"e.g. {'; '.join(_where(samples[place]) for place in places[:NAMED])}"
