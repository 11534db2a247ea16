"""Manifests: the files of a data set, their origin and terms (TOML).

A manifest makes a set such as "100k pairs of CC3M" repeatable, in a form that a program can check. What is not confirmed is
listed under `unconfirmed`. A folder of your own has its manifest inside (`clipedu.data.sources.shard_writer`).

    name = "coco-5k"            also the name of its folder
    [source]  hub, revision     a data set repository of the Hugging Face hub; none where the pairs are drawn or your own
    [licence] name, terms, url, ask     `ask`: fetched only after the terms were accepted
    [splits.val] files, pairs, tolerance    names or patterns (test/*.tar); expected pairs, and the tolerated share
    [subsets.10k.train] ...     fewer shards for a small disk: takes the place of [splits.train]
    [sha256]  [sizes]           of single files, where they are known
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from clipedu.data.shards.samples import SPLITS
from clipedu.utils.errors import ClipeduError, unknown_name
from clipedu.utils.resources import shipped

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OWN = "manifest.toml"  # in a folder of one's own


@dataclass(frozen=True)
class Split:
    """The shards of one split, and how many pairs they should hold.

    `tolerance` is a share of `pairs`: 0.02 accepts 2 % more or less.
    """

    files: tuple[str, ...]
    pairs: int | None = None
    tolerance: float = 0.0

    def expects(self, pairs: int) -> bool:
        """Check whether a count of pairs is as expected."""
        return self.pairs is None or abs(pairs - self.pairs) <= self.tolerance * self.pairs


@dataclass(frozen=True)
class Manifest:
    """One data set, as its TOML describes it.

    `hub` is "" for pairs that are drawn or your own.
    """

    name: str
    about: str = ""
    why: str = ""
    gigabytes: float = 0.0
    fields: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    hub: str = ""
    revision: str = "main"
    gated: bool = False
    licence: str = ""
    terms: str = ""
    url: str = ""
    ask: bool = False
    splits: dict[str, Split] = field(default_factory=dict)
    subsets: dict[str, Manifest] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """List names or patterns of all files, in order."""
        return tuple(file for split in self.splits.values() for file in split.files)

    def subset(self, name: str | None) -> Manifest:
        """Return the manifest of a smaller part; itself for None.

        Raises:
            ClipeduError: no such part.
        """
        if name is None:
            return self
        if name not in self.subsets:
            kind = f"subset of {self.name}"
            raise (
                unknown_name(kind, name, self.subsets)
                if self.subsets
                else ClipeduError(f"{self.name} has no subsets, so {name!r} cannot be fetched: fetch the whole set")
            )
        return self.subsets[name]


def data_home() -> Path:
    """Return `CLIPEDU_DATA`, by default ~/.cache/clipedu/data."""
    return Path(os.environ.get("CLIPEDU_DATA") or "~/.cache/clipedu/data").expanduser()


def manifest_names() -> list[str]:
    """List the names of all sets that come with clipedu."""
    return sorted(path.stem for path in shipped("data_manifests").glob("*.toml"))


def find_manifest(given: str | os.PathLike) -> Manifest:
    """Find the manifest of a name, a .toml file, or a folder that has one.

    Raises:
        ClipeduError: there is none, or it cannot be used.
    """
    if str(given) in manifest_names():
        return read_manifest(shipped("data_manifests") / f"{given}.toml")
    path = Path(given).expanduser()
    if path.suffix == ".toml":
        return read_manifest(path)
    named = str(given) == path.name
    places = (path, data_home() / path.name) if named else (path,)
    for folder in places:
        if (folder / OWN).is_file():
            return read_manifest(folder / OWN)
    if path.is_dir():
        raise ClipeduError(f"{given} has no {OWN}: write one with: clipedu data manifest {given}")
    refuse_files(places)
    raise ClipeduError(f"{unknown_name('data set', str(given), manifest_names())}, a .toml file, or a folder of yours")


def refuse_files(places: Iterable[Path]) -> None:
    """Raise an error for a file that is given in place of its folder.

    Raises:
        ClipeduError: one of the places is there, and is no folder.
    """
    for path in places:
        if path.exists() and not path.is_dir():
            raise ClipeduError(
                f"{path} is a file, not a folder: give the folder that holds it, {path.absolute().parent}"
            )


def read_manifest(path: Path) -> Manifest:
    """Read the manifest in a TOML file.

    Raises:
        ClipeduError: no such file, no TOML, or something in it that cannot be used.
    """
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise ClipeduError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ClipeduError(f"{path} is not a TOML file: {error}") from None
    try:
        return _manifest(table)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise ClipeduError(f"{path} is no manifest: {what}") from None


def _manifest(table: dict[str, Any]) -> Manifest:
    known = ("name", "about", "why", "gigabytes", "fields", "unconfirmed", "source", "licence", "splits", "subsets")
    if odd := set(table) - {*known, "sha256", "sizes"}:
        raise ValueError(f"unknown entry {sorted(odd)[0]!r}. Allowed: {', '.join(known)}, sha256, sizes")
    source, licence = table.get("source", {}), table.get("licence", {})
    whole = Manifest(
        name=safe_name(table["name"], folder=True),
        about=table.get("about", ""),
        why=table.get("why", "").strip(),
        gigabytes=float(table.get("gigabytes", 0)),
        fields=tuple(table.get("fields", ())),
        unconfirmed=tuple(table.get("unconfirmed", ())),
        hub=source.get("hub", ""),
        revision=source.get("revision", "main"),
        gated=source.get("gated", False),
        licence=licence.get("name", ""),
        terms=licence.get("terms", "").strip(),
        url=licence.get("url", ""),
        ask=licence.get("ask", False),
        splits=_splits(table.get("splits", {})),
        sha256={safe_name(name): value.lower() for name, value in table.get("sha256", {}).items()},
        sizes={safe_name(name): int(value) for name, value in table.get("sizes", {}).items()},
    )
    for name, value in whole.sha256.items():
        if not re.fullmatch("[0-9a-f]{64}", value):
            raise ValueError(f"the sha256 of {name} has not 64 hexadecimal digits")
    subsets = {}
    for name, part in table.get("subsets", {}).items():
        splits = whole.splits | _splits({key: value for key, value in part.items() if key != "gigabytes"})
        subsets[name] = replace(whole, splits=splits, gigabytes=float(part.get("gigabytes", whole.gigabytes)))
    return replace(whole, subsets=subsets)


def _splits(table: dict[str, Any]) -> dict[str, Split]:
    if odd := set(table) - set(SPLITS):
        raise ValueError(f"unknown split {sorted(odd)[0]!r}. Allowed: {', '.join(SPLITS)}")
    return {
        name: Split(tuple(map(safe_name, given["files"])), given.get("pairs"), float(given.get("tolerance", 0)))
        for name, given in table.items()
    }


def safe_name(name: str, folder: bool = False) -> str:
    """Return a name if it is that of a file inside its set's folder.

    If `folder`, the name of that folder itself is allowed too.

    Raises:
        ValueError: it is not.
    """
    parts = PurePosixPath(name).parts
    if not name or name.startswith(("/", ".")) or ".." in parts or "\\" in name or (folder and len(parts) != 1):
        raise ValueError(f"{name!r} is no name of a {'folder' if folder else 'file'} inside the set")
    return name
