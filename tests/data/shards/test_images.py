"""Images: what a file becomes as pixels, odd pictures, and why some have none."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from clipedu.data.prepare import prepare_cache
from clipedu.data.shards import images
from clipedu.data.shards.dataset import Shards
from tests.helpers.cached_shards import (
    no_decoding,
)
from tests.helpers.shard_maker import bomb, encode, photo, sample, write_tar

pytestmark = pytest.mark.usefixtures("cache_home")


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


@pytest.mark.parametrize("kind, options", [("png", {}), ("webp", {"lossless": True})])
def test_lossless_images_of_the_right_size_are_left_as_they_are(kind, options):
    assert np.array_equal(images.decode(encode(photo(3), kind, **options), 24, "crop"), photo(3).transpose(2, 0, 1))


def test_crop_keeps_the_middle_and_squash_keeps_everything():
    flag = np.zeros((20, 60, 3), np.uint8)
    for third in range(3):
        flag[:, third * 20 : third * 20 + 20, third] = 255
    crop, squash = (images.decode(encode(flag), 30, how) for how in ("crop", "squash"))
    assert (crop[1, :, 2:-2] == 255).all() and not crop[[0, 2], :, 2:-2].any()
    for third in range(3):
        assert squash[:, 15, third * 10 + 5].tolist() == [255 * (third == channel) for channel in range(3)]
    tall = images.decode(encode(flag.transpose(1, 0, 2).copy()), 30, "crop")
    assert np.array_equal(tall, crop.transpose(0, 2, 1))


def test_crop_is_resize_of_the_shorter_side_and_centre_crop():
    big = photo(5, 64, 160)
    whole = np.asarray(Image.fromarray(big).resize((80, 32), Image.Resampling.BICUBIC))
    got = images.decode(encode(big), 32, "crop").transpose(1, 2, 0)
    assert np.abs(got.astype(int) - whole[:, 24:56]).max() <= 1


def test_a_large_jpeg_is_decoded_small_without_a_visible_difference():
    data = encode(photo(6, 900, 1200), "jpg", quality=95)
    exact = Image.open(io.BytesIO(data)).resize((40, 40), Image.Resampling.BICUBIC, box=(150, 0, 1050, 900))
    assert np.abs(images.decode(data, 40, "crop").transpose(1, 2, 0).astype(int) - np.asarray(exact)).max() <= 8


@pytest.mark.parametrize(
    "orientation, turned", [(1, lambda x: x), (3, lambda x: x[::-1, ::-1]), (6, lambda x: np.rot90(x, -1))]
)
def test_exif_orientation_is_applied(orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = turned(photo(7))
    assert np.array_equal(images.decode(encode(photo(7), "png", exif=exif), 24, "crop"), upright.transpose(2, 0, 1))


def test_a_broken_exif_block_does_no_harm(tmp_path, recwarn):
    image = encode(photo(7), "jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    pairs = Shards(write_tar(tmp_path / "toy" / "0.tar", sample("k", image, ["a text"])).parent, image_size=24)
    assert len(pairs) == 1 and not pairs.skipped and not recwarn.list


def test_every_mode_becomes_rgb():
    grey = photo(8)[:, :, 0]
    image = Image.fromarray(photo(8))
    for picture in (Image.fromarray(grey), Image.fromarray(grey.astype(np.uint16) * 256)):
        assert np.array_equal(images.decode(encode(picture), 24, "crop"), np.stack([grey] * 3))
    clear = image.copy()
    clear.putalpha(255)
    assert np.array_equal(images.decode(encode(clear), 24, "crop"), photo(8).transpose(2, 0, 1))
    few = image.quantize(8)
    expected = np.asarray(few.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(images.decode(encode(few), 24, "crop"), expected)
    inks = images.decode(encode(image.convert("CMYK"), "jpg", quality=95), 24, "crop")
    assert np.abs(inks.astype(int) - photo(8).transpose(2, 0, 1)).mean() < 6


@pytest.mark.parametrize("width, height", [(12_000, 9_000), (60_000, 60_000)])  # Pillow only warns of the first
def test_decompression_bombs_are_not_decoded(width, height, monkeypatch):
    monkeypatch.setattr(PngImageFile, "load", no_decoding)
    with images.quiet(), pytest.raises(images.BadImage, match="too large"):
        images.decode(bomb(width, height), 24, "crop")


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


def drawing(colour, mode="RGBA"):
    """A square of a colour in the middle of a transparent ground."""
    pixels = np.zeros((24, 24, 4), np.uint8)
    pixels[..., :3] = colour
    pixels[8:16, 8:16, 3] = 255
    return Image.fromarray(pixels).convert(mode)


def palette_drawing():
    image = Image.new("P", (24, 24), 0)
    image.putpalette([255, 0, 255, 0, 0, 0] + [0] * 762)
    image.paste(1, (8, 8, 16, 16))
    return image


def key_drawing(mode, ground):
    image = Image.new(mode, (24, 24), ground)
    image.paste(0, (8, 8, 16, 16))
    return image


sixteen = np.full((24, 24), 40_000, np.uint16)
sixteen[8:16, 8:16] = 0


@pytest.mark.parametrize(
    "data",
    [
        encode(drawing(0)),
        encode(drawing(0), "webp", lossless=True),
        encode(drawing(0, "LA")),
        encode(palette_drawing(), transparency=0),
        encode(palette_drawing(), transparency=b"\x00\xff"),
        encode(key_drawing("L", 90), transparency=90),
        encode(key_drawing("1", 1), transparency=1),
        encode(key_drawing("RGB", (10, 20, 30)), transparency=(10, 20, 30)),
        encode(Image.fromarray(sixteen), transparency=40_000),
    ],
    ids=["RGBA", "WebP", "LA", "P", "P-bytes", "L", "1", "RGB", "I;16"],
)
def test_a_black_drawing_on_a_transparent_ground_is_black_on_white(data):
    picture = images.decode(data, 24, "crop")
    assert (picture[:, 8:16, 8:16] == 0).all()
    picture[:, 8:16, 8:16] = 255
    assert (picture == 255).all()


@pytest.mark.parametrize("colour", [255, 248])
def test_a_white_drawing_on_a_transparent_ground_is_on_black(colour):
    picture = images.decode(encode(drawing(colour)), 24, "crop")
    assert (picture[:, 8:16, 8:16] == colour).all() and (picture[:, :8] == 0).all()


def test_half_transparent_pixels_are_mixed_with_white():
    clear = Image.fromarray(photo(3))
    clear.putalpha(Image.fromarray(np.repeat(np.arange(24, dtype=np.uint8) * 11, 24).reshape(24, 24)))
    share = (np.arange(24) * 11 / 255)[:, None, None]
    expected = photo(3) * share + 255 * (1 - share)
    assert np.abs(images.decode(encode(clear), 24, "crop").transpose(1, 2, 0) - expected).max() <= 1


@pytest.mark.parametrize("alpha", [0, 5, 255])
def test_the_same_transparency_everywhere_loses_no_picture(alpha):
    clear = Image.fromarray(photo(4))
    clear.putalpha(alpha)
    assert (images.decode(encode(clear), 24, "crop") == photo(4).transpose(2, 0, 1)).all()


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_sixteen_bits_that_hold_fewer(bits):
    grey = np.linspace(0, 2**bits - 1, 24 * 24).reshape(24, 24).astype(np.uint16)
    got = images.decode(encode(Image.fromarray(grey)), 24, "crop")
    assert np.array_equal(got, np.stack([(grey >> (bits - 8)).astype(np.uint8)] * 3))


def test_orientation_of_sixteen_bits():
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = photo(7)[:, :, 0]
    got = images.decode(encode(Image.fromarray(grey.astype(np.uint16) * 257), exif=exif), 24, "crop")
    assert np.array_equal(got[0], np.rot90(grey, -1))


def test_the_first_of_a_cameras_two_pictures():
    buffer = io.BytesIO()
    one, two = (Image.fromarray(photo(seed, 48, 48)) for seed in (1, 2))
    one.save(buffer, "MPO", save_all=True, append_images=[two], quality=95)
    expected = images.decode(encode(one, "jpg", quality=95), 24, "crop")
    assert np.abs(images.decode(buffer.getvalue(), 24, "crop").astype(int) - expected).max() <= 2
