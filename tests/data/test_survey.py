"""What is in a set: counts against naive versions typed out, hashes by their laws, mirrors against the drawn scenes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from clipedu.data import survey
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.survey import (
    LINK_ROT,
    all_captions,
    difference_hash,
    difference_hashes,
    half_life,
    hamming,
    names_a_side,
    near_copies,
    pixel_digests,
    repeats,
    sampling_error,
    swap_sides,
    word_counts,
)


@pytest.fixture(scope="module")
def scenes():
    return Scenes("train", 200, 32)


def test_escaped_html():
    assert survey.escaped_html(["a &amp; b", "a & b", "&lt;b&gt;", "R&B; soul"]) == ["a &amp; b", "&lt;b&gt;"]


def test_words_are_counted_in_order_of_frequency():
    counts = word_counts(["A dog, a CAT.", "a dog!", "bird"])
    assert list(counts.items()) == [("a", 3), ("dog", 2), ("cat", 1), ("bird", 1)]


def test_all_captions_are_in_order(scenes):
    assert all_captions(scenes)[5:10] == scenes.captions(1) and len(all_captions(scenes)) == 1000


def test_repeats_are_groups_of_places():
    assert repeats("abcabaz") == [[0, 3, 5], [1, 4]]
    assert repeats("abc") == [] and repeats([]) == []


def test_digests_are_equal_for_equal_pixels_only(scenes, monkeypatch):
    pixels = scenes.pixels(torch.arange(200)).clone()
    pixels[150], pixels[199] = pixels[3], pixels[3]
    pixels[199, 2, 31, 31] ^= 1
    monkeypatch.setattr(scenes, "pixels", lambda rows: pixels[rows])
    monkeypatch.setattr(survey, "CHUNK", 64)
    assert repeats(pixel_digests(scenes)) == [[3, 150]]


def test_the_hash_asks_whether_a_pixel_is_brighter_than_its_right_neighbour():
    image = np.random.default_rng(0).integers(0, 256, (3, 8, 9)).astype(np.uint8)
    grey = image.astype(float).mean(0)
    naive = [grey[y, x] > grey[y, x + 1] for y in range(8) for x in range(8)]
    assert difference_hash(torch.from_numpy(image)[None])[0].tolist() == naive
    large = torch.from_numpy(image).repeat_interleave(5, 1).repeat_interleave(5, 2)[None]
    assert difference_hash(large)[0].tolist() == naive


def test_the_hash_hardly_feels_scale_and_brightness_but_tells_pictures_apart():
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(20, 3, 6, 6, generator=generator) * 200
    small, large = (torch.nn.functional.interpolate(rough, size, mode="bicubic") for size in (48, 96))
    distance = hamming(difference_hash(small), difference_hash(0.7 * large + 20))
    assert distance.diagonal().max() <= 3 and (distance + 64 * torch.eye(20)).min() >= 8


def test_hamming_is_that_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.rand(size, 64, generator=generator) < 0.5 for size in (5, 7))
    naive = [[sum(a != b for a, b in zip(x, y, strict=True)) for y in other.tolist()] for x in one.tolist()]
    assert hamming(one, other).tolist() == naive


def test_near_copies_are_those_of_a_loop(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    hashes = torch.rand(40, 64, generator=generator) < 0.5
    hashes[31] = hashes[2]
    hashes[17] = hashes[30]
    hashes[17, :3] ^= True
    monkeypatch.setattr(survey, "CHUNK", 16)
    for at_most in (0, 3, 22):
        naive = {
            (i, j): int((hashes[i] != hashes[j]).sum())
            for i, j in combinations(range(40), 2)
            if (hashes[i] != hashes[j]).sum() <= at_most
        }
        got = [tuple(rows) for rows in near_copies(hashes, at_most).tolist()]
        assert set(got) == set(naive) and len(got) == len(naive)
        assert [naive[rows] for rows in got] == sorted(naive.values())
    assert [tuple(rows) for rows in near_copies(hashes, 3).tolist()] == [(2, 31), (17, 30)]


def test_hashes_of_a_set_go_in_chunks(scenes, monkeypatch):
    whole = difference_hash(scenes.pixels(torch.arange(200)))
    monkeypatch.setattr(survey, "CHUNK", 33)
    assert torch.equal(difference_hashes(scenes), whole)


def test_the_error_of_a_sample_is_that_of_many_samples():
    rng = np.random.default_rng(0)
    for share, sample, population in ((0.1, 40, 100), (0.02, 100, 1000)):
        items = np.arange(population) < share * population
        drawn = [rng.permutation(items)[:sample].mean() / share for _ in range(4000)]
        assert np.std(drawn) == pytest.approx(sampling_error(share, sample, population), rel=0.05)
    assert sampling_error(0.3, 50, 50) == 0


def test_half_of_the_links_are_dead_after_a_half_life():
    for lost, years in ((0.124, 3.4), (0.9, 1.0)):
        assert (1 - lost) == pytest.approx(0.5 ** (years / half_life(lost, years)))
    assert half_life(0.5, 7.0) == pytest.approx(7.0)


def test_link_rot_is_that_of_the_counts():
    assert LINK_ROT[0].lost == pytest.approx(1 - 2_905_954 / 3_318_333, abs=5e-4)
    assert all(0 < rot.lost < 1 and rot.years > 0 for rot in LINK_ROT)


# mirrors


@pytest.mark.parametrize(
    "caption, expected",
    [("The dog on the Left.", True), ("right-hand side", True), ("a bright light", False), ("leftover", False)],
)
def test_words_are_compared_whole(caption, expected):
    assert names_a_side(caption) is expected


def test_swapping_sides():
    assert swap_sides("A ring to the left of a star") == "a ring to the right of a star"
    assert swap_sides("the left one looks right") == "the right one looks left"
    assert swap_sides("a bright leftover") == "a bright leftover"


def test_letterboxes_of_a_set(scenes, monkeypatch):
    pixels = scenes.pixels(torch.arange(200)).clone()
    pixels[[3, 150], :, :4] = pixels[[3, 150], :, -4:] = 255
    monkeypatch.setattr(scenes, "pixels", lambda rows: pixels[rows])
    monkeypatch.setattr(survey, "CHUNK", 64)
    assert survey.letterboxes(scenes).nonzero().flatten().tolist() == [3, 150]
