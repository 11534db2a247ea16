"""`clipedu bench data`: samples per second, against two usual ways.

    DataLoader    in each epoch PIL decodes, torchvision crops, flips and normalises, torch's DataLoader collates
    webdataset    the same, read from the shards as a stream by webdataset
    decode once   ours, the first epoch only: shards -> uint8 pixels and captions in the cache
    feed          ours, in each epoch: gathered from the cache with tokens by the background thread
    feed, augment, normalise
                  ours with crop, flip and normalisation on the same device as the bench: what a CPU without a GPU does

Everything runs in one process with one thread of torch; rates are per second of its processor time. The images are read
once before, into the system's page cache. The peers start from the stored JPEGs, ours from decoded pixels (see above).
"""

from __future__ import annotations

import io
import os
import platform
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipedu.bench.measure import machine, print_line
from clipedu.data.augment import augment
from clipedu.data.batches import batches
from clipedu.data.load import load_pairs
from clipedu.data.pairs import Pairs
from clipedu.data.prefetch import Prefetch
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.shards.samples import shard_names
from clipedu.data.shards.tar_reader import Sample, read_shard
from clipedu.data.tokenizer import train_tokenizer
from clipedu.utils.errors import ClipeduError
from clipedu.utils.markdown import markdown_row, markdown_table

PHOTOGRAPHS = "flickr8k"  # measured too where $CLIPEDU_DATA has it
ROUNDS = 3
QUALITY = 90  # of the scenes' JPEGs
PER_SHARD = 1000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Epoch = Callable[[], Iterable[Tensor]]  # one epoch of batches of images, float32 [B, 3, S, S] or uint8


def bench_data(
    images: int = 1000,
    *,
    image_size: int = 224,
    batch_size: int = 128,
    write: Callable[[str], None] = print_line,
) -> list[dict[str, Any]]:
    """Measure, write a Markdown table line by line, and return its rows.

    Args:
        images: number of each set, the drawn scenes and (where `$CLIPEDU_DATA` has them) Flickr8k's photographs.
        image_size: pixels of the output, and of the scenes' JPEGs.
        batch_size: of all ways.
        write: called with each line; prints by default.

    Returns:
        dicts with data, way, rate (samples per second of processor time) and ratio (to the DataLoader).

    Raises:
        ClipeduError: a size out of range.
    """
    if not 1 <= batch_size <= images:
        raise ClipeduError(
            f"images={images}, batch_size={batch_size}: give at least one image, and a batch of at most all"
        )
    if not 32 <= image_size <= 224:
        raise ClipeduError(f"image_size={image_size} cannot be used: scenes are drawn at 32 to 224 pixels")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    try:
        write(_header(images, image_size, batch_size, device))
        write(markdown_table(["data", "way", "samples a second a core", "ratio"], []))
        with tempfile.TemporaryDirectory() as home, _own_cache(Path(home) / "cache"):
            sets = {"scenes": write_scenes(Path(home) / "scenes", images, image_size)}
            photographs = Path(os.environ.get("CLIPEDU_DATA") or ".") / PHOTOGRAPHS
            if photographs.is_dir() and os.environ.get("CLIPEDU_DATA"):
                sets[PHOTOGRAPHS] = photographs
            for name, folder in sets.items():
                for row in _measure(folder, images, image_size, batch_size, device):
                    rows.append({"data": name, **row})
                    write(markdown_row([name, row["way"], f"{row['rate']:,.0f}", f"**{row['ratio']:.1f}**"]))
    finally:
        torch.set_num_threads(before)
    if not _has_webdataset():
        write("\nwebdataset is not installed, so it was left out: pip install webdataset")
    return rows


def write_scenes(folder: Path, count: int, image_size: int) -> Path:
    """Write drawn scenes as shards of JPEGs with one caption each.

    Files are named as in mirrors of CC3M: KEY.jpg, KEY.txt.

    Args:
        folder: is created; must not exist.
        count: number of scenes.
        image_size: side of the images, in pixels.

    Returns:
        The folder.
    """
    from PIL import Image

    folder.mkdir(parents=True)
    scenes = Scenes("train", count, image_size)
    for start in range(0, count, PER_SHARD):
        with tarfile.open(folder / f"scenes-train-{start // PER_SHARD:04d}.tar", "w") as tar:
            for row in range(start, min(start + PER_SHARD, count)):
                picture, buffer = scenes.pixels(torch.tensor([row]))[0].permute(1, 2, 0).numpy(), io.BytesIO()
                Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY)
                for ending, content in (("jpg", buffer.getvalue()), ("txt", scenes.captions(row)[0].encode())):
                    member = tarfile.TarInfo(f"{row:09d}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return folder


def _measure(folder: Path, images: int, size: int, batch_size: int, device: torch.device) -> list[dict[str, Any]]:
    shards = shard_names(folder, "train")[0]
    samples = [sample for name, path in shards.items() for sample in read_shard(path, name) if not sample.trouble]
    samples = samples[:images]
    for sample in samples:  # into the page cache
        sample.read()

    began = time.process_time()
    pairs = load_pairs(folder, "train", image_size=size, size=len(samples))
    rates = {"decode once": len(samples) / (time.process_time() - began)}
    pairs.tokenize(train_tokenizer([pairs.captions(row)[0] for row in range(len(pairs))], 30))

    ways: dict[str, Epoch] = {"DataLoader": _dataloader(samples, size, batch_size)}
    if _has_webdataset():
        ways["webdataset"] = _webdataset(shards, len(samples), size, batch_size)
    ways["feed"] = _feed(pairs, batch_size, device)
    ways["feed, augment, normalise"] = _augmented(pairs, batch_size, device)
    rates |= _in_turn(ways)
    order = [*list(ways)[:-2], "decode once", *list(ways)[-2:]]
    return [{"way": way, "rate": rates[way], "ratio": rates[way] / rates["DataLoader"]} for way in order]


def _in_turn(ways: dict[str, Epoch]) -> dict[str, float]:
    """Measure samples per second of processor time.

    It is the median of epochs that take turns; a first batch warms up.
    """
    for epoch in ways.values():
        next(iter(epoch()))
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, epoch in ways.items():
            began = time.process_time()
            count = sum(len(batch) for batch in epoch())
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            rates[way].append(count / (time.process_time() - began))
    return {way: median(values) for way, values in rates.items()}


def _transform(size: int) -> Callable[[Any], Tensor]:
    from torchvision import transforms

    return transforms.Compose(
        [
            transforms.RandomResizedCrop(size, scale=(0.5, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


class _Decoded(torch.utils.data.Dataset):
    """The usual dataset for a DataLoader: decoded image and caption."""

    def __init__(self, samples: list[Sample], size: int):
        self.samples, self.transform = samples, _transform(size)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> tuple[Tensor, str]:
        from PIL import Image

        sample = self.samples[row]
        return self.transform(Image.open(io.BytesIO(sample.read())).convert("RGB")), (sample.captions or [""])[0]


def _dataloader(samples: list[Sample], size: int, batch_size: int) -> Epoch:
    loader = torch.utils.data.DataLoader(_Decoded(samples, size), batch_size, shuffle=True, drop_last=True)
    return lambda: (image for image, _ in loader)


def _webdataset(shards: dict[str, Path], count: int, size: int, batch_size: int) -> Epoch:
    import webdataset

    transform = _transform(size)

    def epoch() -> Iterator[Tensor]:
        stream = webdataset.WebDataset([str(path) for path in shards.values()], shardshuffle=False)
        stream = stream.shuffle(1000).decode("pilrgb").to_tuple("jpg", "txt").slice(count)
        stream = stream.map_tuple(transform, str).batched(batch_size, partial=False)
        return (image for image, _ in stream)

    return epoch


def _has_webdataset() -> bool:
    from importlib.util import find_spec

    return find_spec("webdataset") is not None


def _feed(pairs: Pairs, batch_size: int, device: torch.device) -> Epoch:
    def epoch() -> Iterator[Tensor]:
        for batch in Prefetch(batches(pairs, batch_size=batch_size, seed=0, epoch=0), device):
            yield batch.image[0]

    return epoch


def _augmented(pairs: Pairs, batch_size: int, device: torch.device) -> Epoch:
    mean, std = (255 * torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))

    def epoch() -> Iterator[Tensor]:
        for step, pixels in enumerate(_feed(pairs, batch_size, device)()):
            yield augment(pixels, "crop-flip", seed=0, step=step).sub_(mean).div_(std)

    return epoch


@contextmanager
def _own_cache(folder: Path) -> Iterator[None]:
    """Use this folder as the cache meanwhile, instead of the user's."""
    before = os.environ.get("CLIPEDU_CACHE")
    os.environ["CLIPEDU_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["CLIPEDU_CACHE"]
        else:
            os.environ["CLIPEDU_CACHE"] = before


def _header(images: int, image_size: int, batch_size: int, device: torch.device) -> str:
    names = ["clipedu", "torch", "torchvision", "pillow", *(["webdataset"] if _has_webdataset() else [])]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    where = f"; augmentation on {machine('cuda')}" if device.type == "cuda" else ""
    return (
        f"{machine('cpu')}, one core{where}; {versions}, numpy {np.__version__}, Python {platform.python_version()}. "
        f"{images:,} images a set, to {image_size} px, batches of {batch_size}.\n"
        "Samples a second of processor time, random crop and flip; ratio = against PIL and torchvision in a DataLoader.\n"
    )
