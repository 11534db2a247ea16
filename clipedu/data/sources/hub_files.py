"""List and download files of a repository on the Hub, by checksum.

The Hub's own client compares sizes, not contents, and begins again in a new process. Here a file grows under a name made of
its checksum; each attempt, in this process or a later one, requests only the missing bytes (HTTP Range), and the file is
accepted only if its checksum is that of the Hub's metadata. Addresses, login and redirects are the client's.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from clipedu.data.sources.manifests import safe_name
from clipedu.utils.errors import ClipeduError
from clipedu.utils.hub import check_reachable, explained, http_errors, quiet, status_of

WAITS = (
    0.5,
    1.0,
    2.0,
    4.0,
    8.0,
    16.0,
)  # seconds between attempts that brought nothing; after the last one it is an error
SAME_AGAIN = 2  # how often a file may arrive complete and wrong
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its path, size in bytes and checksum.

    `digest` is "sha256-..." for large files (LFS), "git-..." for small ones, as the hub keeps them.
    """

    path: str
    size: int
    digest: str

    @property
    def staged(self) -> str:
        """Return the name before the set is complete, made of path and checksum."""
        return f"{quote(self.path, safe='')}.{self.digest[-16:]}"


class Stopped(Exception):
    """Another thread failed or Ctrl-C came; what has arrived is kept."""


def find_commit(repository: str, revision: str) -> str:
    """Find the full commit of a revision.

    The revision is 40 digits, which are returned as they are, the beginning of them, or the name of a branch.

    Raises:
        ClipeduError: no such repository or revision, not allowed, or a Hub that cannot be reached.
    """
    from huggingface_hub import HfApi

    check_reachable(repository)
    if re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    with quiet(), explained(repository):
        if not re.fullmatch("[0-9a-f]{7,39}", revision):
            if (commit := _ask(lambda: HfApi().dataset_info(repository, revision=revision).sha)) is None:
                raise ClipeduError(f"{repository} has no commit for {revision!r}: give another revision")
            return commit
        there = _ask(lambda: list(HfApi().list_repo_commits(repository, repo_type="dataset")))
        commits = [commit.commit_id for commit in there]
    for commit in commits:
        if commit.startswith(revision):
            return commit
    raise ClipeduError(f"{repository} has no commit that begins with {revision!r}: it was rewritten since")


def list_files(repository: str, commit: str) -> dict[str, RemoteFile]:
    """List all files of a repository, path to file.

    Raises:
        ClipeduError: the Hub cannot be reached, or does not have the repository or the commit.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    with quiet(), explained(repository):
        options: dict[str, Any] = {"recursive": True, "revision": commit, "repo_type": "dataset"}
        tree = _ask(lambda: list(HfApi().list_repo_tree(repository, **options)))
        entries = [entry for entry in tree if isinstance(entry, RepoFile)]
    digests = [f"sha256-{entry.lfs.sha256}" if entry.lfs else f"git-{entry.blob_id}" for entry in entries]
    return {
        entry.path: RemoteFile(entry.path, entry.size, digest) for entry, digest in zip(entries, digests, strict=True)
    }


def _ask(question: Callable[[], _Answer]) -> _Answer:
    """Ask the Hub, and ask again while it is busy; not all versions of its client do."""
    for wait in WAITS[:4]:
        try:
            return question()
        except http_errors() as error:
            if status_of(error) not in _BUSY:
                raise
            time.sleep(max(wait, _asked_to_wait(error)))
    return question()


def choose(there: dict[str, RemoteFile], wanted: tuple[str, ...]) -> list[RemoteFile]:
    """Select files by names or patterns, in the order of `wanted`.

    Raises:
        ClipeduError: one is not there, or its name is not that of a file inside a set.
    """
    found: dict[str, RemoteFile] = {}
    for name in wanted:
        paths = [name] if name in there else sorted(path for path in there if fnmatchcase(path, name))
        if not paths:
            raise ClipeduError(
                f"the repository has no file {name!r} at the revision of the manifest (it has {len(there)} others): "
                "the set has changed on the hub, look for a newer clipedu"
            )
        try:
            found |= {safe_name(path): there[path] for path in paths}
        except ValueError as error:
            raise ClipeduError(f"the repository cannot be fetched: {error}") from None
    return list(found.values())


def download(
    repository: str,
    commit: str,
    file: RemoteFile,
    folder: Path,
    *,
    progress: Callable[[int], object],
    stop: threading.Event,
) -> Path:
    """Download one file and check it.

    After an error, what has arrived is kept for the next call.

    Args:
        repository, commit: of the data set on the Hub.
        file: what to download.
        folder: gets STAGED.part while the file grows, and STAGED when it is complete (see `RemoteFile.staged`).
        progress: called with the number of bytes that have come, negative when bytes are thrown away.
        stop: raises `Stopped` soon after it is set.
    Returns:
        the path of the file.
    Raises:
        ClipeduError: not there, not allowed, the Hub cannot be reached, wrong contents twice, or a full disk.
        Stopped: `stop` was set.
    """
    from huggingface_hub import hf_hub_url

    whole, part = folder / file.staged, folder / f"{file.staged}.part"
    if whole.is_file() and whole.stat().st_size == file.size:
        progress(file.size)
        return whole
    url = hf_hub_url(repository, file.path, repo_type="dataset", revision=commit)
    here = _length(part)
    progress(here)
    for _ in range(SAME_AGAIN):
        with explained(repository), _writing(part):
            _fill(part, url, file.size, progress, stop)
            if digest_of(part, file.digest, stop) == file.digest:
                part.replace(whole)
                return whole
            progress(-_length(part))
            part.unlink()
    raise ClipeduError(
        f"{file.path} of {repository} arrived {SAME_AGAIN} times with other contents than the hub says ({file.digest[:15]}...): "
        "something on the way changes it, try another network or later"
    )


def digest_of(path: Path, like: str, stop: threading.Event | None = None) -> str:
    """Compute the checksum of a file.

    Args:
        path: of the file.
        like: a checksum of the same kind, or its beginning: "sha256-..." or "git-...".
        stop: raises `Stopped` soon after it is set.
    Raises:
        OSError: the file cannot be read.
        Stopped: `stop` was set.
    """
    kind = like.partition("-")[0]
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode()) if kind == "git" else hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
            if stop is not None and stop.is_set():
                raise Stopped
    return f"{kind}-{digest.hexdigest()}"


def _fill(part: Path, url: str, size: int, progress: Callable[[int], object], stop: threading.Event) -> None:
    """Append to `part` until it has `size` bytes, on many connections."""
    idle = 0
    if (extra := _length(part) - size) > 0:  # begun by something else
        part.unlink()
        progress(-extra - size)
    while (before := _length(part)) < size or not part.exists():
        try:
            _continue(part, url, size, progress, stop)
            error = None
        except http_errors() as failure:
            if (status := status_of(failure)) is not None and status not in _BUSY:
                raise
            error = failure
        idle = 0 if _length(part) > before else idle + 1
        if idle > len(WAITS):
            raise error or ClipeduError(f"{url} gives no more than {before} of {size} bytes: try again later")
        if _length(part) < size and stop.wait(max(WAITS[max(idle - 1, 0)], _asked_to_wait(error))):
            raise Stopped


def _continue(part: Path, url: str, size: int, progress: Callable[[int], object], stop: threading.Event) -> None:
    """Request the missing bytes on one connection, and append what comes."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    here = _length(part)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"} | ({"Range": f"bytes={here}-"} if here else {})
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
        hf_raise_for_status(response)
        if here and response.status_code != 206:  # the whole file, whatever was asked for
            progress(-here)
            here = 0
        with part.open("ab") as file:
            file.truncate(here)
            for chunk in response.iter_bytes():
                if stop.is_set():
                    raise Stopped
                chunk = chunk[: size - here]  # an excess is found by the checksum
                file.write(chunk)
                file.flush()
                here += len(chunk)
                progress(len(chunk))
                if here == size:
                    break
            os.fsync(file.fileno())


def _asked_to_wait(error: Exception | None) -> float:
    """Return the seconds that a busy server requires us to wait, at most 300."""
    asked = getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", "")
    return min(float(asked), 300.0) if asked.isdigit() else 0.0


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn an error of the disk, not of the network, into one line."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except OSError as error:
        if isinstance(error, (HfHubHTTPError, ConnectionError, TimeoutError)) or error.errno is None:
            raise
        raise ClipeduError(
            f"{path.parent} cannot be written ({error.strerror}): what has arrived is kept, free some space and "
            "the same command continues"
        ) from None
