"""Verify a data set: check every checksum and count every pair.

A disk can damage a file later; a set can be as the Hub has it and not as its card says. So `verify` reads everything:
files against the checksums of `fetched.json` (or of your own manifest.toml), and in each shard the samples that can be
rows. The result is kept as `verified.json` in the set's folder. A damaged file of a fetched set is marked, so that the
next `clipedu data fetch` downloads it again.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from clipedu.data.shards.samples import shard_names, shard_paths, usable
from clipedu.data.sources.fetching import RECORD, set_folder
from clipedu.data.sources.hub_files import digest_of
from clipedu.data.sources.manifests import OWN, Manifest, find_manifest
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import read_json, write_json

FOUND = "verified.json"


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
        skipped: by reason, how many samples cannot be used.
        surprises: one line for each count that is not as expected, and each shard that the manifest does not name.
    """

    folder: str
    fetched: bool = False
    files: int = 0
    bytes: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    pairs: dict[str, int] = field(default_factory=dict)
    fields: dict[str, dict[str, int]] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)


def verify(name: str | os.PathLike, *, folder: str | os.PathLike | None = None, progress: bool = True) -> Verified:
    """Read a whole data set and compare it with its manifest.

    Args:
        name: of a set that was fetched, a .toml manifest, or a folder that has a manifest.toml.
        folder: of the set, if not in its usual place.
        progress: show a bar.
    Raises:
        ClipeduError: no such set, or it is not there.
    """
    manifest = find_manifest(name)
    target = Path(folder).expanduser() if folder is not None else _folder(name, manifest)
    record = read_json(target / RECORD)
    expected = _expected(manifest, record, target)
    found = Verified(str(target), bool(record))
    _compare(expected, target, found, progress)
    if record:
        for file in expected:
            record["files"][file].pop("damaged", None)
            if file in found.damaged:
                record["files"][file]["damaged"] = True
        write_json(target / RECORD, record)
    _count(manifest.subset(record.get("subset")), target, found, progress)
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


def _count(manifest: Manifest, target: Path, found: Verified, progress: bool) -> None:
    from tqdm.auto import tqdm

    reasons: Counter[str] = Counter()
    for split in manifest.splits:
        try:
            shards, _ = shard_names(target, split)
        except ClipeduError as error:
            found.surprises.append(str(error))
            continue
        kinds: Counter[str] = Counter()
        total = sum(path.stat().st_size for path in shards.values())
        with tqdm(
            desc=f"counting {split}", total=total, unit="B", unit_scale=True, disable=not progress, delay=2
        ) as bar:
            for sample in usable(shards, None, bar.update):
                if sample.trouble:
                    reasons[sample.trouble] += 1
                else:
                    kinds.update(
                        ["image"] + ["captions"] * bool(sample.captions) + ["class"] * (sample.label is not None)
                    )
        found.pairs[split], found.fields[split] = kinds["image"], dict(kinds)
        expected = manifest.splits[split]
        if not expected.expects(kinds["image"]):
            give = f", {expected.tolerance:.0%} more or less" if expected.tolerance else ""
            found.surprises.append(f"{split}: {kinds['image']} usable pairs, {expected.pairs} were expected{give}")
    found.skipped = dict(reasons.most_common())
