"""Fetch a data set: each byte once, every file checked.

Files are downloaded into the folder NAME/.partial and renamed when every one is complete and checked, so a shard in place is
complete, and so is a set. `fetched.json` records names, sizes, checksums and the commit. After a lost connection, Ctrl-C or
a kill, the same command continues where it stopped, to the byte. For a finished set no request is sent.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipedu.data.shards.samples import shard_paths
from clipedu.data.sources.hub_files import RemoteFile, Stopped, choose, digest_of, download, find_commit, list_files
from clipedu.data.sources.manifests import Manifest, data_home, find_manifest
from clipedu.utils.disk_space import check_free_space, size_text
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import read_json, reported, write_json
from clipedu.utils.logs import show_progress_lines

log = logging.getLogger("clipedu")

RECORD = "fetched.json"
PARTIAL = ".partial"
CONNECTIONS = 4  # files at a time


@dataclass(frozen=True)
class Fetched:
    """The result of `fetch`: folder, files, their bytes, bytes transferred."""

    folder: Path
    files: int
    bytes: int
    transferred: int


def set_folder(name: str) -> Path:
    """Return the folder of the set of this name, unless another is given."""
    return data_home() / name


def fetch(
    name: str | os.PathLike,
    *,
    subset: str | None = None,
    folder: str | os.PathLike | None = None,
    accept_terms: bool = False,
    progress: bool = True,
) -> Fetched:
    """Fetch a data set into its folder, or what is missing there.

    Args:
        name: of a set that comes with clipedu, or a .toml manifest.
        subset: a smaller part, e.g. "10k"; a larger one later only adds shards.
        folder: where to put the set; by default `CLIPEDU_DATA`/NAME, else ~/.cache/clipedu/data/NAME.
        accept_terms: the user has read and accepted the terms of the set.
        progress: show a bar, and what is to be fetched.
    Raises:
        ClipeduError: an unknown set or subset, terms not accepted, a gated set without login, a hub that cannot be reached
            or has other files than the manifest pins, too little free space, or a folder in use.
    """
    show_progress_lines(progress)
    manifest = find_manifest(name)
    part = manifest.subset(subset)
    target = Path(folder).expanduser() if folder is not None else set_folder(manifest.name)
    if not manifest.hub:
        what = "is drawn when it is used" if manifest.name == "scenes" else "is your own"
        raise ClipeduError(f"{manifest.name} {what}: there is nothing to fetch")
    if finished(part, target):
        sizes = [entry["size"] for entry in read_json(target / RECORD)["files"].values()]
        return Fetched(target, len(sizes), sum(sizes), 0)
    if manifest.ask and not accept_terms:
        raise ClipeduError(
            f"{manifest.name} has terms: read them (clipedu data show {manifest.name}) and accept them (--yes)"
        )

    commit = find_commit(manifest.hub, manifest.revision)
    there = list_files(manifest.hub, commit)
    files = choose(there, part.files)
    _check_pins(files, manifest)
    _check_foreign_shards(target, {file.path for file in choose(there, manifest.files)})
    with _locked(target):
        return _fetch(manifest, subset, commit, files, target, progress)


def finished(part: Manifest, folder: Path) -> bool:
    """Check whether all that a manifest names is fetched and there.

    No request is sent.
    """
    record = read_json(folder / RECORD)
    wanted = set(record.get("wanted", ()))
    return _same_source(record, part) and wanted.issuperset(part.files) and not missing(folder)


def _same_source(record: dict[str, Any], manifest: Manifest) -> bool:
    return (record.get("hub"), record.get("revision")) == (manifest.hub, manifest.revision)


def missing(folder: Path) -> list[str]:
    """List files of `fetched.json` that are missing or damaged.

    These are files that are missing, of another size, or found damaged by `verify`.

    Raises:
        ClipeduError: `fetched.json` is damaged.
    """
    files = read_json(folder / RECORD).get("files", {})
    return [name for name, entry in files.items() if entry.get("damaged") or _size(folder / name) != entry["size"]]


def check_finished(folder: Path) -> None:
    """Raise an error for a set of which only some files are in place.

    Raises:
        ClipeduError: its fetching was not finished, or files are missing.
    """
    begun = (folder / PARTIAL).is_dir() and not (folder / RECORD).is_file()
    if begun or (gone := missing(folder)):
        what = "was not fetched to the end" if begun else f"lacks {len(gone)} of its files, e.g. {gone[0]}"
        raise ClipeduError(f"{folder} {what}: give the same command again (clipedu data fetch)")


def _fetch(
    manifest: Manifest, subset: str | None, commit: str, files: list[RemoteFile], target: Path, progress: bool
) -> Fetched:
    from tqdm.auto import tqdm

    partial = target / PARTIAL
    record = read_json(target / RECORD)
    done = {file.path for file in files if _in_place(target / file.path, file, record)}
    needed = [file for file in files if file.path not in done]
    staged = [(file, partial / file.staged, partial / f"{file.staged}.part") for file in needed]
    here = sum(min(file.size, _size(whole) or _size(begun) or 0) for file, whole, begun in staged)
    smaller = f"take a part of it (--subset {' or '.join(manifest.subsets)}), " if manifest.subsets else ""
    remedy = f"{smaller}or set CLIPEDU_DATA to a larger disk"
    check_free_space(target, sum(file.size for file in needed) - here, manifest.name, remedy)
    total = sum(file.size for file in files)
    kept = total - sum(file.size for file in needed) + here
    there = f", {size_text(kept)} is there" if kept else ""
    amounts = f"{len(files)} files, {size_text(total)}; {size_text(total - kept)} to fetch"
    log.info("%s: %s into %s%s", manifest.name, amounts, target, there)
    counted = _Counter()
    bar = tqdm(desc=manifest.name, total=total, unit="B", unit_scale=True, disable=not progress, mininterval=0.5)
    with bar:
        bar.update(total - sum(file.size for file in needed))
        _download_all(manifest.hub, commit, needed, partial, counted.adding(bar.update))
    _put_in_place(needed, target, _record(manifest, subset, commit, files, record))
    shutil.rmtree(partial, ignore_errors=True)
    return Fetched(target, len(files), total, max(counted.bytes - here, 0))


def _record(manifest: Manifest, subset: str | None, commit: str, files: list[RemoteFile], old: dict) -> dict[str, Any]:
    """Make `fetched.json` of these files and of an earlier, smaller part."""
    before = old if _same_source(old, manifest) else {}
    wanted = {*manifest.subset(subset).files, *before.get("wanted", ())}
    return {
        "name": manifest.name,
        "hub": manifest.hub,
        "revision": manifest.revision,
        "commit": commit,
        "subset": None if wanted.issuperset(manifest.files) else subset,
        "wanted": sorted(wanted),
        "files": before.get("files", {}) | {file.path: {"size": file.size, "digest": file.digest} for file in files},
    }


def _put_in_place(files: list[RemoteFile], target: Path, record: dict[str, Any]) -> None:
    """Rename complete files to their final names.

    Until all are, `fetched.json` marks each as damaged.
    """
    for file in files:
        record["files"][file.path]["damaged"] = True
    write_json(target / RECORD, record)
    for file in files:
        place = target / file.path
        with reported(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            (target / PARTIAL / file.staged).replace(place)
        del record["files"][file.path]["damaged"]
    write_json(target / RECORD, record)


def _download_all(
    repository: str, commit: str, files: list[RemoteFile], partial: Path, progress: Callable[[int], object]
) -> None:
    """Download all files, some at a time.

    The first error, or Ctrl-C, stops the others; what has arrived is kept.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(CONNECTIONS)
    try:
        tasks = {
            pool.submit(download, repository, commit, file, partial, progress=progress, stop=stop) for file in files
        }
        while tasks:  # in short waits, so that Ctrl-C gets through
            done, tasks = wait(tasks, timeout=0.2, return_when=FIRST_EXCEPTION)
            errors = [error for task in done if (error := task.exception()) is not None]
            if errors:
                raise next((error for error in errors if not isinstance(error, Stopped)), errors[0])
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


class _Counter:
    """Counts bytes from several threads."""

    def __init__(self) -> None:
        self.bytes, self._lock = 0, threading.Lock()

    def adding(self, also: Callable[[int], object]) -> Callable[[int], None]:
        """Make a function that counts and calls `also`, a thread at a time."""

        def add(count: int) -> None:
            with self._lock:
                self.bytes += count
                also(count)

        return add


def _check_pins(files: list[RemoteFile], manifest: Manifest) -> None:
    for file in files:
        pinned = manifest.sha256.get(file.path)
        if pinned and file.digest != f"sha256-{pinned}":
            raise ClipeduError(
                f"{file.path} on the hub is another file than the manifest of {manifest.name} pins "
                f"(sha256 {file.digest.partition('-')[2][:12]}..., not {pinned[:12]}...): nothing was fetched"
            )


def _check_foreign_shards(target: Path, known: set[str]) -> None:
    """Raise an error for shards of another set, which would become rows."""
    shards = [path.relative_to(target).as_posix() for path in shard_paths(target)] if target.is_dir() else []
    if foreign := sorted(set(shards) - known):
        raise ClipeduError(
            f"{target} holds shards of another set, e.g. {foreign[0]}: move them away, or give another folder (--folder)"
        )


def _in_place(path: Path, file: RemoteFile, record: dict[str, Any]) -> bool:
    """Check whether a file is in place with the right contents.

    It is hashed unless `fetched.json` records its checksum.
    """
    if _size(path) != file.size:
        return False
    recorded = record.get("files", {}).get(file.path, {})
    if recorded.get("digest") == file.digest and not recorded.get("damaged"):
        return True
    return digest_of(path, file.digest) == file.digest


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Lock the set's folder; the lock ends with the process."""
    from filelock import FileLock, Timeout

    with reported(target):
        (target / PARTIAL).mkdir(parents=True, exist_ok=True)
    lock = FileLock(target / PARTIAL / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ClipeduError(f"another process is fetching into {target}: wait for it") from None
    except OSError as error:
        raise ClipeduError(f"{target} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()
