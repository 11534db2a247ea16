"""Augmentation: crops, flips and the course's ten operations, against PIL's and by their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from clipedu.data.augment import AUGMENTATIONS, ENHANCE, OPERATIONS, ROTATE, SHEAR, augment, operate, rand_augment
from clipedu.utils.errors import ClipeduError

MOVES = ("shear-x", "shear-y", "translate-x", "translate-y", "rotate")
FIRST_RELEASE = [[215.89784, 35.093338], [55.483315, 208.04286]]  # leftmost and rightmost pixel of two ramps


def noise(count: int = 16, size: int = 12) -> torch.Tensor:
    return torch.randint(256, (count, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def ramp(count: int, size: int) -> torch.Tensor:
    """Brightness grows from left to right: its place can be read off a pixel."""
    return torch.linspace(20, 220, size).expand(count, 3, size, size).contiguous()


def test_none_is_the_same_tensor():
    pixels = noise()
    assert augment(pixels, "none", seed=0, step=0) is pixels


@pytest.mark.parametrize("how", AUGMENTATIONS[1:])
def test_shape_type_range_and_repeatability(how):
    pixels = noise(64)
    got = augment(pixels, how, seed=3, step=9)
    assert got.shape == pixels.shape and got.dtype == torch.float32
    assert got.min() >= -1e-3 and got.max() <= 255 + 1e-3
    assert torch.equal(got, augment(pixels, how, seed=3, step=9))
    assert not torch.equal(got, augment(pixels, how, seed=3, step=10))
    assert not torch.equal(got, augment(pixels, how, seed=4, step=9))
    assert torch.equal(pixels, noise(64))


@pytest.mark.parametrize("how", ["crop", "crop-flip"])
def test_a_constant_image_stays_constant(how):
    pixels = torch.full((32, 3, 9, 9), 137, dtype=torch.uint8)
    torch.testing.assert_close(augment(pixels, how, seed=0, step=1), pixels.float(), rtol=0, atol=1e-3)


def crop_of(picture: torch.Tensor) -> tuple[float, float, float]:
    """Left edge, right edge and slope's sign of the crop of a ramp, in fractions of the picture's width."""
    place = (picture[0, 0] - 20) / 200 * (1 - 1 / len(picture[0])) + 0.5 / len(picture[0])  # centre of each pixel
    step = float(place[1:].sub(place[:-1])[5:-5].mean()) / 2
    return float(place[5]) - 11 * step, float(place[-6]) + 11 * step, step


def test_crops_lie_in_the_picture_and_have_the_promised_area():
    size = 48
    across = augment(ramp(300, size), "crop", seed=0, step=0)
    down = augment(ramp(300, size).transpose(2, 3).contiguous(), "crop", seed=0, step=0).transpose(2, 3)
    areas, aspects = [], []
    for x, y in zip(across, down, strict=True):
        left, right, slope = crop_of(x)
        top, bottom, _ = crop_of(y)
        assert slope > 0 and min(left, top) > -0.01 and max(right, bottom) < 1.01
        areas.append((right - left) * (bottom - top))
        aspects.append((right - left) / (bottom - top))
    assert 0.49 < min(areas) < 0.55 and 0.9 < max(areas) < 1.01
    assert 0.74 < min(aspects) < 0.85 and 1.2 < max(aspects) < 1.35


def test_crop_flip_mirrors_about_half_and_crops_alike():
    pixels = ramp(400, 24)
    plain, flipped = (augment(pixels, how, seed=2, step=5) for how in ("crop", "crop-flip"))
    mirrored = [torch.allclose(b, a.flip(-1), atol=1e-2) for a, b in zip(plain, flipped, strict=True)]
    kept = [torch.allclose(b, a, atol=1e-2) for a, b in zip(plain, flipped, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 150 < sum(mirrored) < 250


def test_pictures_of_a_batch_are_cropped_differently():
    got = augment(noise(1).expand(8, -1, -1, -1), "crop", seed=0, step=0)
    assert len({tuple(picture.flatten().tolist()) for picture in got}) == 8


def test_an_unknown_augmentation():
    with pytest.raises(ClipeduError, match="unknown augment 'flip'. .*none, crop, crop-flip, crop-flip-randaugment"):
        augment(noise(), "flip", seed=0, step=0)


def test_the_numbers_of_a_seed_stay_what_they_were():
    """A run of an older version can be repeated: values of the first release."""
    got = augment(ramp(2, 8), "crop-flip", seed=1, step=2)
    torch.testing.assert_close(got[:, 0, 0, [0, 7]], torch.tensor(FIRST_RELEASE), rtol=0, atol=1e-3)


def test_the_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = augment(noise(), "crop-flip-randaugment", seed=0, step=0)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    assert torch.equal(one, augment(noise(), "crop-flip-randaugment", seed=0, step=0))


@pytest.mark.parametrize("how", AUGMENTATIONS)
@pytest.mark.parametrize("cut", [1, 8, 11])
def test_pieces_of_a_batch_are_changed_as_the_batch_is(how, cut):
    pixels = noise()
    whole = augment(pixels, how, seed=3, step=4)
    parts = [augment(pixels[:cut], how, seed=3, step=4, first=0, of=16)]
    parts.append(augment(pixels[cut:], how, seed=3, step=4, first=cut, of=16))
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("how", AUGMENTATIONS[1:])
def test_few_pictures_at_once_are_changed_as_all(how, monkeypatch):
    """On a CPU the batch is worked off in pieces; a piece of a shared batch too."""
    whole = augment(noise(), how, seed=3, step=4, first=2, of=20)
    monkeypatch.setattr("clipedu.data.augment.CHUNK_PIXELS_CPU", 3 * 12 * 12)
    assert torch.equal(augment(noise(), how, seed=3, step=4, first=2, of=20), whole)


# RandAugment


def test_operations_are_drawn_anew_for_each_seed_and_step():
    drawn = {
        tuple(rand_augment(noise().float(), 0, 16, seed=seed, step=step).flatten().tolist())
        for seed in range(2)
        for step in range(2)
    }
    assert len(drawn) == 4


def pictures() -> list[np.ndarray]:
    """uint8 [H, W, 3]: smooth, dull, of few colours, with an empty channel, constant, not square."""
    rng = np.random.default_rng(0)

    def smooth(height, width):
        rough = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        return np.asarray(Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC))

    dull = (60 + smooth(24, 24) // 4).astype(np.uint8)
    few = rng.choice([10, 20, 200], (24, 24, 3)).astype(np.uint8)
    empty = smooth(24, 24).copy()
    empty[..., 1] = 0
    return [smooth(24, 24), dull, few, empty, np.full((24, 24, 3), 77, np.uint8), smooth(18, 31)]


def tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.transpose(2, 0, 1).copy())[None]


def by_pil(name: str, picture: np.ndarray, sign: int = 1) -> np.ndarray:
    image, (height, width) = Image.fromarray(picture), picture.shape[:2]
    if name == "autocontrast":
        return np.asarray(ImageOps.autocontrast(image))
    if name == "equalize":
        return np.asarray(ImageOps.equalize(image))
    if name == "brightness":
        return np.asarray(ImageEnhance.Brightness(image).enhance(ENHANCE))
    if name == "sharpness":
        return np.asarray(ImageEnhance.Sharpness(image).enhance(ENHANCE))
    if name == "rotate":
        turned = image.rotate(sign * ROTATE, Image.Resampling.BILINEAR, fillcolor=(128, 128, 128))
        return np.asarray(turned)
    shift_x, shift_y = sign * 7 / 256 * width, sign * 7 / 256 * height
    matrix = {
        "shear-x": (1, sign * SHEAR, 0, 0, 1, 0),
        "shear-y": (1, 0, 0, sign * SHEAR, 1, 0),
        "translate-x": (1, 0, shift_x, 0, 1, 0),
        "translate-y": (1, 0, 0, 0, 1, shift_y),
    }[name]
    moved = image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=(128, 128, 128)
    )
    return np.asarray(moved)


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "brightness", "sharpness"])
@pytest.mark.parametrize("number", range(6))
def test_colours_are_pils(name, number):
    picture = pictures()[number]
    got = operate(name, tensor(picture))[0].permute(1, 2, 0).numpy()
    assert np.abs(got - by_pil(name, picture)).max() <= (
        0 if name == "equalize" else 1.2
    )  # PIL cuts off fractions, also midway


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("number", [0, 5])
def test_movements_are_pils_where_the_picture_still_is(name, sign, number):
    """At the rim PIL cuts sharply, and we (as OpenCV) blend into the grey: compared where four neighbours are inside."""
    picture = pictures()[number]
    got = operate(name, tensor(picture), sign)[0].permute(1, 2, 0).numpy()
    full = np.full_like(picture, 255)
    inside = operate(name, tensor(full), sign)[0, 0].numpy() > 254.9
    assert inside.mean() > 0.6
    assert np.abs(got - by_pil(name, picture, sign))[inside].max() < 1.001
    outside = operate(name, tensor(full), sign)[0, 0].numpy() < 128.1
    assert outside.any() == (by_pil(name, full, sign) == 128).any() or name.startswith("translate")
    assert (got[outside] == 128).all()


def test_movements_are_those_of_torchvision():
    affine = pytest.importorskip("torchvision.transforms.v2.functional").affine
    picture = tensor(pictures()[0]).float()
    degrees = math.degrees(math.atan(SHEAR))
    for name, sides in (("shear-x", [degrees, 0.0]), ("shear-y", [0.0, degrees])):
        theirs = affine(
            picture, 0.0, [0, 0], 1.0, sides, interpolation=2, fill=[128.0], center=[0, 0]
        )  # 2 is PIL's number for bilinear
        ours = operate(name, picture)
        inside = operate(name, torch.full_like(picture, 255)) > 254.9
        torch.testing.assert_close(ours[inside], theirs[inside], rtol=0, atol=0.05)


def test_a_movement_and_its_reverse():
    white = torch.full((1, 3, 64, 64), 255.0)
    for name in MOVES:
        forth, back = operate(name, white, 1)[0, 0], operate(name, white, -1)[0, 0]
        mirrored = (
            back.flip(1) if name in ("translate-x", "rotate") else back.flip(0) if name == "translate-y" else None
        )
        if mirrored is not None:
            torch.testing.assert_close(forth, mirrored, rtol=0, atol=1e-2)
        else:
            assert not torch.equal(forth, back)


def test_shift_scales_with_the_picture():
    """7 pixels of 256, the course's size, and as much of the side at any other."""
    for size in (64, 256):
        got = operate("translate-x", torch.full((1, 3, size, size), 255.0))[0, 0, 0]
        assert (255 - got).sum() / 127 == pytest.approx(7 * size / 256, abs=1e-3)


def test_nothing_is_stretched_where_there_is_only_rounding():
    flat = torch.full((1, 3, 8, 8), 137.0) + 1e-4 * torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for name in ("autocontrast", "equalize"):
        assert (operate(name, flat) - 137).abs().max() < 0.01


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_operations_keep_shape_range_and_their_input(name):
    pixels = noise(size=20).float()  # larger than 256 pixels, or there is nothing to equalize
    before = pixels.clone()
    got = operate(name, pixels)
    assert got.shape == pixels.shape and got.dtype == torch.float32
    assert got.min() >= 0 and got.max() <= 255 and torch.equal(pixels, before)
    assert torch.equal(got, pixels) == (name == "identity")
    alone = torch.cat([operate(name, picture[None]) for picture in pixels])
    torch.testing.assert_close(got, alone, rtol=0, atol=1e-3)  # a picture doesn't depend on its neighbours


def test_draws_are_those_of_the_course():
    """Two rounds, ten operations equally often, each done half the time, both signs: counted by operations that add."""
    seen = {name: [] for name in OPERATIONS}

    def counting(name):
        def operation(pixels, sign):
            seen[name].append(sign)
            return pixels + 1

        return operation

    original = dict(OPERATIONS)
    try:
        OPERATIONS.update({name: counting(name) for name in OPERATIONS})
        got = rand_augment(torch.zeros(4000, 1, 1, 1), 0, 4000, seed=0, step=0)
    finally:
        OPERATIONS.update(original)
    done = torch.bincount(got.flatten().long(), minlength=3) / 4000
    torch.testing.assert_close(done, torch.tensor([0.25, 0.5, 0.25]), rtol=0, atol=0.03)
    assert len(seen) == 10
    for signs in map(torch.cat, seen.values()):
        assert 0.085 < len(signs) / 4000 < 0.115 and 0.4 < (signs == 1).float().mean() < 0.6
        assert set(signs.tolist()) == {1.0, -1.0}


def test_a_picture_that_draws_nothing_stays():
    pixels = noise(64).float()
    got = rand_augment(pixels, 0, 64, seed=0, step=0)
    same = [torch.equal(a, b) for a, b in zip(got, pixels, strict=True)]
    assert 10 <= sum(same) <= 40 and torch.equal(pixels, noise(64).float())  # about 30 %: 1/4 not done, identities


def test_operations_that_are_none():
    with pytest.raises(ClipeduError, match="unknown operation 'posterize'. .*autocontrast"):
        operate("posterize", noise())
    with pytest.raises(ClipeduError, match="sign=2 "):
        operate("rotate", noise(), 2)
