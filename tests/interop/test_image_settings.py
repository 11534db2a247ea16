"""What a model says of its images: size, mean and standard deviation."""

from __future__ import annotations

import pytest

from clipedu import ClipeduError
from clipedu.interop.image_settings import check_image_size, check_patches, one_side, pixel_stats_of


@pytest.mark.parametrize("size", [0, -8, "32", 32.0, True, [32, 32]])
def test_a_size_that_is_none(size):
    with pytest.raises(
        ClipeduError, match="^image_size=.* must be a whole number of pixels, at least 1, height and width"
    ):
        check_image_size(size)


def test_sizes():
    check_image_size(None), check_image_size(224)
    assert one_side("m", 32) == one_side("m", (32, 32)) == one_side("m", [32]) == 32
    assert one_side("m", (32, 64), 48) == one_side("m", None, 48) == 0
    with pytest.raises(
        ClipeduError, match=r"^m: images of \(32, 64\) pixels are not square, and clipedu's are: give image_size=N"
    ):
        one_side("m", (32, 64))
    for size in (None, "32", ("32", "32"), (), 0, -32, 32.0):
        with pytest.raises(
            ClipeduError, match="^m: the size of its images is .*, and must be a number of pixels, at least 1"
        ):
            one_side("m", size)


def test_patches():
    check_patches("m", 48, 16), check_patches("m", 48, (16, 8)), check_patches("m", 47, None)
    for patch in (14, (14, 14), [14, 2]):
        with pytest.raises(
            ClipeduError, match="^m: image_size=48 is no multiple of its patches' 14 pixels: take 42 or 56"
        ):
            check_patches("m", 48, patch)
    with pytest.raises(ClipeduError, match="take 14$"):
        check_patches("m", 8, 14)


@pytest.mark.parametrize("wrong", [None, [], [0.5], [0.5] * 4, "abc", [None] * 3, [float("nan")] * 3, 0.5, [True] * 3])
def test_mean_and_std(wrong):
    assert pixel_stats_of("m", [0, 0.5, 1], (1, 2.0, 0.1)) == ((0.0, 0.5, 1.0), (1.0, 2.0, 0.1))
    with pytest.raises(ClipeduError, match="^m: the mean of its images, .*, must be three numbers, one each for red"):
        pixel_stats_of("m", wrong, [1, 1, 1])
    with pytest.raises(ClipeduError, match="^m: the std of its images, .*, must be three numbers, above 0, one each"):
        pixel_stats_of("m", [0, 0, 0], wrong)


def test_a_std_of_zero():
    with pytest.raises(ClipeduError, match="above 0"):
        pixel_stats_of("m", [0, 0, 0], [1, 0, 1])
