"""Write shards from your own images, and manifests of your own shards.

The table is a CSV with a header: one column names the image file (as seen from the folder), one holds the caption; a "split"
column (train, val or test) is optional, without it all rows are train. Several rows of one image are several captions. Comma,
tab, semicolon or | may separate the columns.

    image,caption                          filepath    title
    dog.jpg,"a dog, asleep"                img/1.jpg   a red car
    dog.jpg,a brown dog

The manifest (manifest.toml in the folder) records what is there: sizes, sha256, counts. So another day, or on another
machine, `clipedu data verify FOLDER` can check that it is still the same set.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clipedu.data.shards.samples import MissingSplit, shard_names, usable
from clipedu.data.shards.tar_reader import IMAGES
from clipedu.data.sources.hub_files import digest_of
from clipedu.data.sources.manifests import OWN, data_home, read_manifest, safe_name
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import atomic_folder, write_text

IMAGE_COLUMNS = ("image", "filepath", "file_name", "filename", "file", "path", "image_name", "image_path")
CAPTION_COLUMNS = ("caption", "title", "text", "comment", "captions")
SPLIT_WORDS = ("train", "val", "test")
PER_SHARD = 1000  # images


def write_manifest(folder: str | os.PathLike, name: str | None = None) -> Path:
    """Write the manifest of a folder of shards; returns its path.

    Args:
        folder: of shards.
        name: what the set is called; by default as its folder.
    Raises:
        ClipeduError: no such folder, no shards, no usable pair in them, or a folder that cannot be written.
    """
    folder = Path(folder).expanduser()
    splits: dict[str, dict[str, Path]] = {}
    for split in ("train", "val"):
        try:
            shards, _ = shard_names(folder, split)
        except MissingSplit:
            continue
        if shards not in splits.values():  # names without a split's word: every shard belongs to every split
            splits[split] = shards
    name = name or folder.resolve().name
    lines = [f"name = {_text(name)}", f"about = {_text(f'{name}: my own pairs')}", ""]
    for split, shards in splits.items():
        pairs = sum(not sample.trouble for sample in usable(shards, None, lambda _: None))
        if not pairs:
            raise ClipeduError(f"{folder} has no usable pair in split {split!r}: check the shards")
        files = ", ".join(map(_text, shards))
        lines += [f"[splits.{split}]", f"files = [{files}]", f"pairs = {pairs}", ""]
    every = {file: path for shards in splits.values() for file, path in shards.items()}
    lines += ["[sizes]", *(f"{_text(file)} = {path.stat().st_size}" for file, path in every.items()), ""]
    lines += ["[sha256]", *(f"{_text(file)} = {_text(_sha256(path))}" for file, path in every.items()), ""]
    write_text(folder / OWN, "\n".join(lines))
    read_manifest(folder / OWN)  # a name that a manifest cannot hold is an error now
    return folder / OWN


@dataclass(frozen=True)
class WrittenShards:
    """The result of `write_shards`: folder, counts, and rows left out."""

    folder: Path
    images: int
    captions: int
    dropped: list[str]


def write_shards(
    images: str | os.PathLike, captions: str | os.PathLike, *, folder: str | os.PathLike | None = None
) -> WrittenShards:
    """Write images and a table of captions as shards with a manifest.

    The image files go in as they are. The folder appears when all shards are written, or not at all.

    Args:
        images: the folder that the table's file names are relative to.
        captions: the CSV.
        folder: where the shards go; by default `CLIPEDU_DATA`/NAME (else ~/.cache/clipedu/data/NAME), NAME that of `images`.
    Raises:
        ClipeduError: a table that cannot be read, no usable row, or a folder that is taken or cannot be written.
    """
    images = Path(images).expanduser()
    if not images.is_dir():
        raise ClipeduError(f"{images} is no folder: give the folder that the image names in the table are relative to")
    target = Path(folder).expanduser() if folder is not None else data_home() / images.resolve().name
    if target.exists() and any(target.iterdir()):
        raise ClipeduError(f"{target} is not empty: give another place for the shards (--folder)")
    dropped: list[str] = []
    rows = _rows(Path(captions).expanduser(), images, dropped)
    if not rows:
        why = f"e.g. {dropped[0]}" if dropped else "it has no rows"
        raise ClipeduError(f"{captions} gives no usable pair ({why})")
    with atomic_folder(target) as partial:
        for split in dict.fromkeys(split for split, _ in rows):
            mine = [(image, texts) for (where, image), texts in rows.items() if where == split]
            for start in range(0, len(mine), PER_SHARD):
                name = f"{target.name}-{split}-{start // PER_SHARD:05d}.tar"
                _write_shard(partial / name, mine[start : start + PER_SHARD], images, start)
        write_manifest(partial, target.name)
    return WrittenShards(target, len(rows), sum(map(len, rows.values())), dropped)


def _rows(table: Path, images: Path, dropped: list[str]) -> dict[tuple[str, str], list[str]]:
    """Return (split, image) -> captions, in the order of the table.

    A line is appended to `dropped` for each row that cannot be used.
    """
    rows: dict[tuple[str, str], list[str]] = {}
    split_of: dict[str, str] = {}
    trouble: dict[str, str] = {}
    for number, (image, caption, split) in enumerate(_read(table), 2):
        if image not in trouble:
            trouble[image] = _unusable(image, images)
        why = trouble[image] or ("" if caption else "empty caption")
        if not why and split not in SPLIT_WORDS:
            why = f"unknown split {split!r}. Allowed: {', '.join(SPLIT_WORDS)}"
        if not why and split_of.setdefault(image, split) != split:
            why = f"is in {split_of[image]} already, so it cannot be in {split} too"
        if why:
            dropped.append(f"row {number}: {image}: {why}")
        else:
            rows.setdefault((split, image), []).append(caption)
    return rows


def _read(table: Path) -> Iterator[tuple[str, str, str]]:
    """Yield image, caption and split of each row."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ClipeduError(f"{table} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    header = text.partition("\n")[0]
    separator = max(",\t;|", key=header.count)
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
        names = [name.strip().lower() for name in next(rows, [])]
        image, caption = (_column(table, names, wanted) for wanted in (IMAGE_COLUMNS, CAPTION_COLUMNS))
        split = names.index("split") if "split" in names else None
        for row in rows:
            if row:
                row += [""] * (len(names) - len(row))
                yield row[image].strip(), row[caption].strip(), "train" if split is None else row[split].strip().lower()
    except csv.Error as error:
        raise ClipeduError(f"{table} is no CSV: {error}") from None


def _column(table: Path, names: list[str], wanted: Iterable[str]) -> int:
    for name in wanted:
        if name in names:
            return names.index(name)
    raise ClipeduError(
        f"{table} has the columns {', '.join(names) or '(none)'}: one of them must be called {', '.join(wanted)}"
    )


def _unusable(image: str, images: Path) -> str:
    try:
        safe_name(image)
    except ValueError:
        return "not a file inside the folder"
    path = images / image
    if not path.resolve().is_relative_to(images.resolve()):
        return "not a file inside the folder"
    if path.suffix.lower().lstrip(".") not in IMAGES:
        return f"not a {', '.join(IMAGES)}"
    if not path.is_file():
        return "no such file"
    return "" if path.stat().st_size else "zero bytes"


def _write_shard(path: Path, rows: list[tuple[str, list[str]]], images: Path, first: int) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for number, (image, texts) in enumerate(rows, first):
            record = json.dumps({"captions": texts, "image": image}, ensure_ascii=False).encode()
            picture = (images / image).read_bytes()
            for extension, content in ((Path(image).suffix.lower().lstrip("."), picture), ("json", record)):
                header = tarfile.TarInfo(f"{number:08d}.{extension}")
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))


def _sha256(path: Path) -> str:
    return digest_of(path, "sha256-").partition("-")[2]


def _text(value: str) -> str:
    """Return a TOML string: JSON's escapes are TOML's too."""
    return json.dumps(value, ensure_ascii=False)
