"""What the tests of fetching share: a hub on loopback with one data set, and a manifest of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from clipedu.data.sources.shard_writer import _text
from tests.helpers.hub_server import REVISION, client_settings, serve_hub
from tests.helpers.processes import environment
from tests.helpers.shard_maker import encode, photo, sample, write_tar

REPOSITORY = "owner/wds_birds"
SHARDS = ("birds-train-00.tar", "birds-train-01.tar", "birds-train-02.tar", "birds-val-00.tar")


def make_repository(root: Path, *, side: int = 24) -> Path:
    """Three train shards of 4 pairs and one val shard of 2, as a data set repository under `root`."""
    repository = root / "datasets" / REPOSITORY
    for number, name in enumerate(SHARDS):
        files = []
        for i in range(2 if "val" in name else 4):
            seed = 10 * number + i
            files += sample(f"k{seed:03d}", encode(photo(seed, side, side)), [f"bird {seed}"])
        write_tar(repository / name, files)
    (repository / "README.md").write_text("birds")
    return repository


def write_birds(
    path: Path,
    *,
    train: tuple[str, ...] = SHARDS[:3],
    pairs: int = 12,
    sha256: dict[str, str] | None = None,
    hub: str = REPOSITORY,
    revision: str = REVISION,
    ask: bool = False,
) -> Path:
    """A manifest of the repository, with a subset "4" of one shard."""
    pins = "\n".join(f"{_text(name)} = {_text(value)}" for name, value in (sha256 or {}).items())
    path.write_text(
        f"""
name = "birds"
about = "birds for tests"
[source]
hub = "{hub}"
revision = "{revision}"
[licence]
name = "birds only"
terms = "be kind to birds"
ask = {str(ask).lower()}
[splits.train]
files = [{", ".join(map(_text, train))}]
pairs = {pairs}
[splits.val]
files = ["birds-val-*.tar"]
pairs = 3
tolerance = 0.5
[subsets.4.train]
files = ["birds-train-01.tar"]
pairs = 4
[sha256]
{pins}
"""
    )
    return path


@contextmanager
def serving(root: Path, monkeypatch, fault=lambda request: None, **options):
    """The hub of `root` for clients in this process; yields the requests it has seen."""
    from huggingface_hub import constants

    with serve_hub(root, fault, **options) as (endpoint, seen):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield seen


def command(endpoint: str, home: Path, *words: str) -> tuple[list[str], dict[str, str]]:
    """`clipedu data ...` for a process of its own, and its environment."""
    code = (
        "import argparse, sys\n"
        "from clipedu.cli.data import add_data\n"
        "from clipedu.utils.errors import ClipeduError\n"
        "parser = argparse.ArgumentParser()\n"
        "add_data(parser.add_subparsers())\n"
        "given = parser.parse_args(['data', *sys.argv[1:]])\n"
        "try:\n"
        "    given.command(given)\n"
        "except ClipeduError as error:\n"
        "    sys.exit(f'clipedu: {error}')\n"
    )
    online = environment(**client_settings(endpoint, home / "hf"), CLIPEDU_DATA=str(home))
    return [sys.executable, "-c", code, *words], online


def there(root: Path, names: Sequence[str] = SHARDS) -> dict[str, bytes]:
    """The repository's shards as the hub has them."""
    return {name: (root / "datasets" / REPOSITORY / name).read_bytes() for name in sorted(names)}


def contents(folder: Path) -> dict[str, bytes]:
    """All files under a folder but `fetched.json` and `verified.json`."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name not in ("fetched.json", "verified.json")}
