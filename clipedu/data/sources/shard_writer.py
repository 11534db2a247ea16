"""Write shards from your own images, and manifests of your own shards.

`caption_files` reads the captions: a table with a header, or JSON.

    image,caption                          filepath    title
    dog.jpg,"a dog, asleep"                img/1.jpg   a red car
    dog.jpg,a brown dog

The manifest (manifest.toml in the folder) records what is there: sizes, sha256, counts. So another day, or on another
machine, `clipedu data verify FOLDER` can check that it is still the same set.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clipedu.data.shards.left_out import one_line, summary
from clipedu.data.shards.samples import MissingSplit, shard_names, usable
from clipedu.data.shards.splits import splits_in
from clipedu.data.shards.tar_reader import MAX_TEXT
from clipedu.data.sources.caption_files import read_captions
from clipedu.data.sources.caption_rows import CaptionRow, CaptionTable, LeftOut
from clipedu.data.sources.hub_files import digest_of
from clipedu.data.sources.manifests import OWN, data_home, read_manifest
from clipedu.data.sources.picture_files import UnusablePicture, locate, read_pictures
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import atomic_folder, reported, write_text

if TYPE_CHECKING:
    from tqdm import tqdm

PER_SHARD = 1000  # images
LEFT_OUT = "left_out.txt"  # a line for each row that is not in the shards


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
    lines = [f"name = {_text(name)}", f"about = {_text('my own pairs')}", ""]
    for split, shards in splits.items():
        samples = list(usable(shards, None, lambda _: None))
        pairs = sum(not sample.trouble for sample in samples)
        if not pairs:
            why = summary((one_line(f"{sample.shard}: {sample.key}"), one_line(sample.trouble)) for sample in samples)
            raise ClipeduError(f"{folder} has no usable pair in split {split!r} ({why[0] if why else 'no samples'})")
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
    """The result of `write_shards`.

    Attributes:
        folder: of the shards.
        images, captions: how many were written.
        left_out: rows that were not, in the order of the file.
        notes: lines on how the captions were read.
    """

    folder: Path
    images: int
    captions: int
    left_out: list[LeftOut]
    notes: list[str]

    @property
    def dropped(self) -> list[str]:
        """One line for each row that was left out."""
        return [str(row) for row in self.left_out]

    def reasons(self) -> dict[str, int]:
        """Return how many rows were left out by kind, most first."""
        return dict(Counter(row.kind for row in self.left_out).most_common())


def write_shards(
    images: str | os.PathLike,
    captions: str | os.PathLike,
    *,
    folder: str | os.PathLike | None = None,
    progress: bool = True,
) -> WrittenShards:
    """Write images and a file of captions as shards with a manifest.

    The image files go in as they are, once they have been decoded. The folder appears when all shards are written, or not at
    all; `left_out.txt` in it has a line for each row that was left out.

    Args:
        images: the folder that the file names with the captions are relative to.
        captions: a table or JSON, see `clipedu.data.sources.caption_files`.
        folder: where the shards go; by default `CLIPEDU_DATA`/NAME (else ~/.cache/clipedu/data/NAME), NAME that of `images`.
        progress: show a bar.
    Raises:
        ClipeduError: captions that cannot be read, no usable row, or a folder that is taken or cannot be written.
    """
    from tqdm.auto import tqdm

    images = Path(images).expanduser()
    if not os.path.isdir(images):
        raise ClipeduError(f"{images} is no folder: give the folder that the image names in the table are relative to")
    target = Path(folder).expanduser() if folder is not None else data_home() / images.resolve().name
    with reported(target):
        if os.path.exists(target) and (not target.is_dir() or any(target.iterdir())):
            raise ClipeduError(f"{target} is not empty: give another place for the shards (--folder)")
    table = read_captions(Path(captions).expanduser())
    groups = _groups(table, images)
    prefix = "" if splits_in(target.name) else f"{target.name}-"  # "val2014-train-00000.tar" would be of two splits
    written: list[int] = []
    with atomic_folder(target) as partial:
        bar = tqdm(
            desc=f"packing {target.name}",
            total=sum(map(len, groups.values())),
            unit="img",
            delay=2,
            disable=not progress,
        )
        with bar:
            for split, rows in groups.items():
                written += _write_split(partial / f"{prefix}{split}", _usable(images, rows, table, bar))
        table.left_out.sort(key=lambda row: row.number)
        if not written:
            why = f"e.g. {table.left_out[0]}" if table.left_out else "it has no rows"
            raise ClipeduError(f"{captions} gives no usable pair ({why})")
        if table.left_out:
            write_text(partial / LEFT_OUT, "".join(f"{row}\n" for row in table.left_out))
        write_manifest(partial, target.name)
    return WrittenShards(target, len(written), sum(written), table.left_out, table.notes)


def _groups(table: CaptionTable, images: Path) -> dict[str, dict[str, list[CaptionRow]]]:
    """Return split -> image -> rows, in the order of the file.

    A row whose image cannot be used is left out, and one whose image is in another split already.
    """
    groups: dict[str, dict[str, list[CaptionRow]]] = {}
    found: dict[str, str | UnusablePicture] = {}
    split_of: dict[str, str] = {}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    repeated: list[str] = []
    for row in table.rows:
        if row.image not in found:
            try:
                found[row.image] = locate(row.image, images)
            except UnusablePicture as error:
                found[row.image] = error
        name = found[row.image]
        if isinstance(name, UnusablePicture):
            table.left_out.append(LeftOut(row.number, row.where, row.image, name.kind, str(name)))
        elif (first := split_of.setdefault(name, row.split)) != row.split:
            why = f"is in {first} already, so it cannot be in {row.split} too"
            table.left_out.append(LeftOut(row.number, row.where, row.image, "is in another split already", why))
        else:
            groups.setdefault(row.split, {}).setdefault(name, []).append(row)
            if (name, row.captions) in seen:
                repeated.append(row.where)
            seen.add((name, row.captions))
    if repeated:
        count = f"{len(repeated)}, the first is {repeated[0]}"
        table.notes.append(f"rows with the image and captions of an earlier row: {count}; they are kept")
    return groups


def _usable(
    images: Path, rows: dict[str, list[CaptionRow]], table: CaptionTable, bar: tqdm
) -> Iterator[tuple[str, bytes, list[str]]]:
    """Yield name, bytes and captions of each image that can be packed.

    The rows of the others are left out.
    """
    for image, data in read_pictures(images, list(rows)):
        bar.update()
        captions = [text for row in rows[image] for text in row.captions]
        if not isinstance(data, UnusablePicture) and len(_record(image, captions)) > MAX_TEXT:
            data = UnusablePicture("too long captions", f"its captions have more than {MAX_TEXT} bytes")
        if isinstance(data, UnusablePicture):
            table.left_out += [LeftOut(row.number, row.where, image, data.kind, str(data)) for row in rows[image]]
        else:
            yield image, data, captions


def _write_split(stem: Path, samples: Iterator[tuple[str, bytes, list[str]]]) -> list[int]:
    """Write the shards STEM-00000.tar and so on.

    Returns the number of captions of each image.
    """
    written: list[int] = []
    with ExitStack() as shard:
        for number, (image, data, captions) in enumerate(samples):
            if number % PER_SHARD == 0:
                shard.close()
                path = stem.with_name(f"{stem.name}-{number // PER_SHARD:05d}.tar")
                tar = shard.enter_context(tarfile.open(path, "w", format=tarfile.PAX_FORMAT))
            suffix = Path(image).suffix.lower()
            for ending, content in ((suffix, data), (".json", _record(image, captions))):
                header = tarfile.TarInfo(f"{number:08d}{ending}")
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
            written.append(len(captions))
    return written


def _record(image: str, captions: list[str]) -> bytes:
    return json.dumps({"captions": captions, "image": image}, ensure_ascii=False).encode()


def _sha256(path: Path) -> str:
    return digest_of(path, "sha256-").partition("-")[2]


def _text(value: str) -> str:
    """Return a TOML string: JSON's escapes are TOML's too."""
    return json.dumps(value, ensure_ascii=False)
