"""Order, captions and augmentation of batches, all from the seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipedu.data.batches import augment, batches, caption_choice, epoch_order
from clipedu.data.pairs import Pairs
from clipedu.registry import ClipeduError


class Numbered(Pairs):
    """Row r shows the colour r and has 1 + r % 3 captions, "r 0", "r 1", ..."""

    name, image_size = "numbered", 4

    def __init__(self, rows: int):
        self.rows = rows
        self.tokenize(Numbers())

    def __len__(self):
        return self.rows

    def pixels(self, index):
        return index.to(torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()

    def captions(self, row):
        return [f"{row} {k}" for k in range(1 + row % 3)]


class Numbers:
    def encode(self, texts):
        return np.array([[int(word) for word in text.split()] for text in texts], np.int32), np.full(
            len(texts), 2, np.int32
        )


def epoch(pairs, **settings):
    return list(batches(pairs, **{"batch_size": 5, "seed": 1, "epoch": 0, **settings}))


def rows_of(got) -> list[int]:
    return torch.cat([batch.index for batch in got]).tolist()


def same(one, two) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in zip((one.index, *one.image, *one.text), (two.index, *two.image, *two.text), strict=True)
    )


def test_an_epoch_visits_rows_once_and_drops_the_rest():
    got = epoch(Numbered(23))
    assert [len(batch.index) for batch in got] == [5, 5, 5, 5]
    assert len(set(rows_of(got))) == 20
    assert sorted(rows_of(epoch(Numbered(20)))) == list(range(20))


def test_epochs_and_seeds_differ_and_repeat():
    pairs = Numbered(60)
    orders = {
        (seed, number): tuple(rows_of(epoch(pairs, seed=seed, epoch=number)))
        for seed in range(4)
        for number in range(4)
    }
    assert len(set(orders.values())) == 16
    assert orders[2, 3] == tuple(rows_of(epoch(pairs, seed=2, epoch=3)))
    huge = [tuple(epoch_order(60, seed=seed, epoch=0).tolist()) for seed in (0, 2**32, 2**33, 2**63 - 1)]
    assert len(set(huge)) == 4


def test_every_epoch_is_a_permutation_without_a_favourite():
    first = torch.stack([epoch_order(8, seed=0, epoch=e) for e in range(400)])
    assert torch.equal(first.sort(1).values, torch.arange(8).expand(400, 8))
    counts = torch.stack([(first[:, place, None] == torch.arange(8)).sum(0) for place in (0, 7)])
    assert counts.min() > 25 and counts.max() < 80  # 50 +- 4.5 standard deviations


def test_the_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = epoch(Numbered(20))
    augment(one[0].image[0], "crop-flip", seed=0, step=0)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    assert all(same(a, b) for a, b in zip(one, epoch(Numbered(20)), strict=True))


@pytest.mark.parametrize("skip", [0, 1, 3, 4])
def test_resumed_in_the_middle_of_an_epoch(skip):
    pairs = Numbered(23)
    whole, rest = epoch(pairs), epoch(pairs, skip=skip)
    assert len(rest) == 4 - skip
    assert all(same(a, b) for a, b in zip(whole[skip:], rest, strict=True))


def test_pixels_and_captions_are_those_of_the_row():
    pairs, shown = Numbered(21), {}
    for number in range(12):
        for batch in epoch(pairs, epoch=number):
            (pixels,), (ids, mask) = batch.image, batch.text
            assert pixels.dtype == torch.uint8 and torch.equal(pixels[:, 0, 0, 0].long(), batch.index)
            assert torch.equal(ids[:, 0], batch.index) and mask.all()
            for row, caption in ids.tolist():
                shown.setdefault(row, set()).add(caption)
    assert shown == {row: set(range(1 + row % 3)) for row in range(21)}  # over the epochs a row shows all of its own


def test_caption_choice_is_independent_of_the_order():
    a, b = caption_choice(500, seed=1, epoch=0), caption_choice(500, seed=1, epoch=1)
    assert a.min() >= 0 and not torch.equal(a, b)
    assert 180 < int((a % 2 == b % 2).sum()) < 320
    order = epoch_order(500, seed=1, epoch=0).double()
    assert abs(float(torch.corrcoef(torch.stack([order, a.double()]))[0, 1])) < 0.2


def test_features_instead_of_pixels_and_tokens():
    pairs = Numbered(22)
    _, _, owner = pairs.all_tokens()
    first = torch.searchsorted(owner, torch.arange(23))
    texts = torch.stack(
        [owner.float(), (torch.arange(len(owner)) - first[owner]).float()], 1
    )  # (row, number of caption)
    images = torch.arange(22.0)[:, None] * torch.ones(1, 3)
    plain = epoch(pairs, epoch=7)
    for batch, kept in zip(
        plain, epoch(pairs, epoch=7, image_features=images, text_features=(texts, first)), strict=True
    ):
        assert torch.equal(batch.index, kept.index)
        assert torch.equal(kept.image[0], images[batch.index]) and len(kept.image) == len(kept.text) == 1
        assert torch.equal(kept.text[0].long(), batch.text[0])  # the same caption that the tokens would have shown


def test_a_batch_larger_than_the_data():
    with pytest.raises(ClipeduError, match="batch_size=5 is larger than the data: numbered/train has 4 pairs"):
        epoch(Numbered(4))
    assert len(epoch(Numbered(5))) == 1


def test_to_moves_what_the_model_sees():
    """The rows' numbers stay on the CPU, where a loss can check them without waiting for the device."""
    batch = epoch(Numbered(20))[0].to(torch.device("meta"))
    assert {t.device.type for t in (*batch.image, *batch.text)} == {"meta"} and batch.index.device.type == "cpu"


# augmentation


def noise(count: int = 16, size: int = 12) -> torch.Tensor:
    return torch.randint(256, (count, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def ramp(count: int, size: int) -> torch.Tensor:
    """Brightness grows from left to right: its place can be read off a pixel."""
    return torch.linspace(20, 220, size).expand(count, 3, size, size).contiguous()


def test_none_is_the_same_tensor():
    pixels = noise()
    assert augment(pixels, "none", seed=0, step=0) is pixels


@pytest.mark.parametrize("how", ["crop", "crop-flip"])
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
    with pytest.raises(ClipeduError, match="unknown augment 'flip'. .*none, crop, crop-flip"):
        augment(noise(), "flip", seed=0, step=0)
