"""Whatever is in the shards: odd pictures, hostile tars, 1,000 mutated samples, a full disk. On the real path, to the cache."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clipedu.data.prepare import prepare_cache, verify_cache
from clipedu.data.shards import decoding as decode
from clipedu.data.shards import images
from clipedu.data.shards.dataset import Shards
from clipedu.utils.errors import ClipeduError
from tests.helpers.shard_maker import encode, make_shards, photo, sample, write_tar


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def cached(folder, data, kind="jpg"):
    """The one picture of a set with this image file, uint8 [24, 24, 3], or why there is none."""
    write_tar(folder / "0.tar", sample("k", data, ["a text"], kind=kind) + sample("good", photo(9), ["a text"]))
    report = prepare_cache(folder, image_size=24, progress=False)
    assert report.rows + len(report.dropped) == 2
    if report.dropped:
        ((where, why),) = report.dropped
        assert where == "0.tar: k" and "\n" not in why
        return why
    return Shards(folder, image_size=24).pixels(torch.tensor([0]))[0].permute(1, 2, 0).numpy()


def near(image, expected, off=6.0):
    return np.abs(image.astype(int) - expected).mean() < off


# Odd pictures


def test_cmyk_and_grey_jpegs(tmp_path):
    picture = Image.fromarray(photo(1))
    assert near(cached(tmp_path / "cmyk", encode(picture.convert("CMYK"), "jpg", quality=95)), photo(1))
    grey = np.asarray(picture.convert("L"))
    assert near(cached(tmp_path / "grey", encode(picture.convert("L"), "jpg", quality=95)), grey[..., None])


def test_sixteen_bits(tmp_path):
    grey = photo(2)[..., 0]
    data = encode(Image.fromarray(grey.astype(np.uint16) * 257))
    assert (cached(tmp_path / "toy", data, "png") == grey[..., None]).all()


@pytest.mark.parametrize("kind", ["webp", "png"])
def test_of_an_animation_the_first_picture(tmp_path, kind):
    film = [Image.fromarray(photo(seed)) for seed in (3, 4, 5)]
    buffer = io.BytesIO()
    film[0].save(buffer, kind, save_all=True, append_images=film[1:], duration=100, lossless=True)
    assert (cached(tmp_path / "toy", buffer.getvalue(), kind) == photo(3)).all()


def test_gif_is_named(tmp_path):
    assert cached(tmp_path / "toy", encode(photo(3), "gif")) == "image is not a JPEG, PNG or WebP"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = {1: [], 2: [1], 3: [0, 1], 4: [0], 5: ["t"], 6: ["t", 1], 7: ["t", 0, 1], 8: ["t", 0]}[orientation]
    upright = photo(6)
    for how in turn:
        upright = upright.transpose(1, 0, 2) if how == "t" else np.flip(upright, how)
    assert near(cached(tmp_path / "toy", encode(photo(6), "jpg", quality=95, exif=exif)), upright)


def claiming(data, width, height):
    """A JPEG that says it is `width` x `height` pixels."""
    data, place = bytearray(data), 2
    while data[place + 1] not in (0xC0, 0xC2):
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    data[place + 5 : place + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def test_a_jpeg_of_30000_by_30000_is_not_decoded(tmp_path, monkeypatch):
    from PIL import JpegImagePlugin

    load = JpegImagePlugin.JpegImageFile.load

    def small_ones(image):
        assert image.width * image.height < 10**6
        return load(image)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", small_ones)
    small = encode(photo(7), "jpg")
    assert cached(tmp_path / "large", claiming(small, 30_000, 30_000)).startswith("image is too large")
    assert not isinstance(cached(tmp_path / "true", claiming(small, 24, 24)), str)


def test_html_zero_bytes_and_cut_jpegs(tmp_path):
    page = b"<!DOCTYPE html><html><body>404 not found</body></html>"
    assert cached(tmp_path / "html", page) == "image is not a JPEG, PNG or WebP"
    assert cached(tmp_path / "none", b"") == "image has zero bytes"
    whole = encode(photo(8, 200, 200), "jpg")
    assert cached(tmp_path / "cut", whole[: len(whole) // 2]).startswith("image cannot be decoded (OSError")


# Hostile tars


def special(name, kind, target=""):
    header = tarfile.TarInfo(name)
    header.type, header.linkname, header.devmajor, header.devminor = kind, target, 1, 5
    return [(header, b"")]


@pytest.mark.parametrize(
    "kind, target",
    [
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.SYMTYPE, "../../secret.jpg"),
        (tarfile.LNKTYPE, "good.png"),
        (tarfile.CHRTYPE, ""),
        (tarfile.BLKTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
@pytest.mark.parametrize("extension", ["jpg", "txt"])
def test_links_and_devices_are_not_followed(tmp_path, kind, target, extension):
    (tmp_path / "secret.jpg").write_bytes(encode(photo(0), "jpg"))
    files = sample("good", photo(9), ["a text"]) + special(f"k.{extension}", kind, target)
    files += [("k.txt", b"a text")] if extension == "jpg" else [("k.png", encode(photo(0)))]
    write_tar(tmp_path / "toy" / "0.tar", files)
    report = prepare_cache(tmp_path / "toy", image_size=8, progress=False)
    assert (report.rows, report.dropped) == (1, (("0.tar: k", "a link or a device, not a file"),))


@pytest.mark.parametrize("path", ["../k", "/tmp/k", "a/../../k", "a/../k"])
def test_paths_that_lead_out_are_not_taken(tmp_path, path):
    files = sample("good", photo(9), ["a text"]) + sample(path, photo(0), ["a text"])
    write_tar(tmp_path / "toy" / "0.tar", files)
    report = prepare_cache(tmp_path / "toy", image_size=8, progress=False)
    assert (report.rows, report.dropped) == (1, ((f"0.tar: {path}", "unsafe path"),))


def test_what_is_no_file_is_no_shard(tmp_path):
    folder = make_shards(tmp_path / "toy", 2)
    os.mkfifo(folder / "fifo.tar")
    (folder / "folder.tar").mkdir()
    (folder / "loop.tar").symlink_to(folder / "loop.tar")
    assert prepare_cache(folder, image_size=8, progress=False).rows == 2


def test_bad_texts_are_named(tmp_path):
    files = sample("good", photo(0), ["a text"])
    files += [("utf.png", encode(photo(1))), ("utf.txt", b"caf\xe9")]
    files += [("none.png", encode(photo(1)))]
    files += sample("good", photo(2), ["twice"])
    files += [("deep.png", encode(photo(1))), ("deep.json", b"[" * 100_000)]
    files += [("long.png", encode(photo(1))), ("long.txt", b"x" * (2**20 + 1))]
    write_tar(tmp_path / "toy" / "0.tar", files)
    report = prepare_cache(tmp_path / "toy", image_size=8, progress=False)
    assert dict(report.dropped) == {
        "0.tar: utf": "bad UTF-8",
        "0.tar: none": "no caption",
        "0.tar: good": "duplicate key, only the first sample is kept",
        "0.tar: deep": "bad JSON",
        "0.tar: long": "text file too large",
    }


# 1,000 mutated samples


def mutate(data, rng):
    """Some bytes flipped, a piece cut out, the end cut off, or a piece put in."""
    how, place = rng.integers(4), int(rng.integers(len(data)))
    if how == 0:
        flipped = bytearray(data)
        for spot in rng.integers(len(data), size=rng.integers(1, 9)):
            flipped[spot] ^= int(rng.integers(1, 256))
        return bytes(flipped)
    if how == 1:
        return data[:place] + data[place + int(rng.integers(1, 600)) :]
    if how == 2:
        return data[:place]
    return data[:place] + rng.bytes(int(rng.integers(1, 600))) + data[place:]


WATCHED = """
import sys
from pathlib import Path
written = set()
def watch(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)) and args[2] & 0o3:
        written.add(str(args[0]))
    if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "shutil.rmtree", "os.chmod"):
        written.add(str(args[0]))
from clipedu.data.prepare import prepare_cache
sys.addaudithook(watch)
report = prepare_cache(sys.argv[1], image_size=16, workers=1, progress=False)
print(report.rows, *sorted(written), sep="\\n")
"""


def test_a_thousand_mutated_samples(tmp_path, cache_home):
    rng = np.random.default_rng(5)
    folder = make_shards(tmp_path / "toy", 3, per_shard=1)  # the first says that there are captions
    files, mutated = [], []
    for i in range(500):  # 500 images
        data = encode(photo(i, 40, 40), ("jpg", "png", "webp")[i % 3])
        files += sample(f"image{i}", mutate(data, rng), [f"picture {i}"], kind="jpg")
        mutated.append(f"image{i}")
    write_tar(folder / "toy-train-images.tar", files)
    for i in range(250):  # and 250 tars of two samples each
        path = folder / f"toy-train-t{i:03d}.tar"
        write_tar(
            path, sample(f"a{i}", photo(i), [f"picture {i}"]) + sample(f"b{i}", photo(i + 1), ["one", f"and {i}"])
        )
        path.write_bytes(mutate(path.read_bytes(), rng))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    command = [sys.executable, "-c", WATCHED, str(folder)]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | path, cwd=tmp_path)
    assert done.returncode == 0 and not done.stderr, done.stderr
    rows, *written = done.stdout.splitlines()

    # Nothing outside the cache was touched, and nothing partial is left in it.
    assert written and all(Path(name).is_relative_to(cache_home) for name in written), written
    assert {path: path.read_bytes() for path in before} == before
    (entry,) = cache_home.iterdir()
    assert sorted(path.name for path in entry.iterdir()) == ["pixels.npy", "rows.json"]
    assert set(tmp_path.iterdir()) == {folder, cache_home}

    # Each is counted and named.
    pairs = Shards(folder, image_size=16)
    assert len(pairs) == int(rows) and {"k000", "k001", "k002"} <= set(pairs.keys)
    named = {where for where, _ in pairs.dropped}
    in_first = {key for key in pairs.keys if key.startswith("image")}
    lost = {where.removeprefix("toy-train-images.tar: ") for where in named if "images.tar" in where}
    assert in_first.isdisjoint(lost) and in_first | lost == set(mutated) and 50 < len(lost) < 450
    lines = [f"{where}: {why}" for where, why in pairs.dropped]
    whole = 0
    for i in range(250):
        shard, kept = f"toy-train-t{i:03d}.tar", {f"a{i}", f"b{i}"} & set(pairs.keys)
        assert len(kept) == 2 or any(line.startswith(shard) for line in lines), shard
        whole += len(kept)
    assert 50 < whole < 450 and all("\n" not in line for line in lines)
    assert not verify_cache(folder, image_size=16, images=None, progress=False).problems


# A full disk


LIMITED = """
import resource, sys
from clipedu.data.shards import decoding as decode
from clipedu.data.prepare import prepare_cache
from clipedu.utils.errors import ClipeduError
decode.PART = 4
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    prepare_cache(sys.argv[1], image_size=24, workers=int(sys.argv[3]), progress=False)
except ClipeduError as error:
    print(error)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_cannot_grow(tmp_path, cache_home, workers, monkeypatch):
    folder = make_shards(tmp_path / "toy", 20)
    room = str(10 * 3 * 24 * 24)  # ten of twenty images
    command = [sys.executable, "-c", LIMITED, str(folder), room, str(workers)]
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | path)
    assert "cannot write decoded images" in done.stdout and "CLIPEDU_CACHE" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1 and "File too large" in done.stdout and not done.stderr
    assert all(path.name.endswith(".partial") for path in cache_home.iterdir())
    real, calls = images.decode, []
    monkeypatch.setattr(images, "decode", lambda *args: calls.append(1) or real(*args))
    monkeypatch.setattr(decode, "PART", 4)
    assert prepare_cache(folder, image_size=24, progress=False).rows == 20
    assert len(calls) == 12 if workers == 1 else 12 <= len(calls) <= 20  # two parts were there
    assert not verify_cache(folder, image_size=24, images=None, progress=False).problems


def test_no_room_for_the_rows(tmp_path, cache_home, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    folder = make_shards(tmp_path / "toy", 3)
    with monkeypatch.context() as patch:
        patch.setattr(json, "dump", full)
        with pytest.raises(ClipeduError, match="No space left"):
            prepare_cache(folder, image_size=24, progress=False)
    (partial,) = cache_home.iterdir()
    assert partial.name.endswith(".partial")
    assert prepare_cache(folder, image_size=24, progress=False).rows == 3


def test_a_shard_that_vanishes(tmp_path, monkeypatch):
    folder = make_shards(tmp_path / "toy", 4)
    real = images.decode

    def remove(*args):
        (folder / "toy-train-000.tar").unlink(missing_ok=True)
        return real(*args)

    monkeypatch.setattr(images, "decode", remove)
    with pytest.raises(ClipeduError) as error:
        prepare_cache(folder, image_size=8, progress=False)
    assert "\n" not in str(error.value) and "changed while they were read" in str(error.value)
