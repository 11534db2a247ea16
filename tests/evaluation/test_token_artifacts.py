"""Outlier tokens: known ones are found, and what is nearly constant has none."""

import math

import numpy as np
import pytest
import torch

from clipedu.evaluation.token_artifacts import artifacts, patch_detail
from clipedu.inference.attention import Tokens
from clipedu.utils.errors import ClipeduError
from tests.inference.test_attention import pictures

TOKENS = Tokens(("register 0", *(f"patch ({row}, {column})" for row in range(4) for column in range(4))), 1, (4, 4))


def made_up(seed=0):
    """Two blocks, 50 images: norms of 10 to 14, a register of 100."""
    norms = 10 + 4 * torch.rand(2, 50, 17, generator=torch.Generator().manual_seed(seed))
    norms[..., 0] = 100
    return norms


def test_known_outliers_are_found_and_registers_are_none():
    norms = made_up()
    norms[1, 3, 5], norms[1, 3, 6], norms[1, 40, 16] = 150, 90, 60
    table = artifacts(norms, TOKENS)
    assert table["outliers"].tolist() == [0, 3 / 800]
    median = np.median(norms[1, :, 1:])
    np.testing.assert_allclose(table["median"][1], median, rtol=1e-3)
    np.testing.assert_allclose(table["largest"][1], 150 / median, rtol=1e-3)
    assert table["largest"][0] < 1.4
    assert artifacts(norms, TOKENS, factor=8)["outliers"].tolist() == [0, 1 / 800]
    assert artifacts(1000 * norms, TOKENS)["outliers"].tolist() == [0, 3 / 800]  # no unit


@pytest.mark.filterwarnings("error")
def test_nearly_constant_norms_have_no_outliers():
    norms = torch.full((2, 50, 17), 12.0)
    norms[1, 0, 3] = 12.1  # infinitely many spreads away, and nothing to speak of
    table = artifacts(norms, TOKENS, torch.zeros(50, 3, 8, 8, dtype=torch.uint8))
    assert table["detail_correlation"].isna().all()  # nothing to rank, and no warning
    assert table["outliers"].tolist() == [0, 0] and table["largest"].max() < 1.01


def test_outliers_on_plain_background_are_told_apart():
    """Block 0: norms grow with detail. Block 1: they fall with it, and a blank patch in each image is far out."""
    noise = torch.Generator().manual_seed(4)
    strength = torch.rand(50, 16, generator=noise)
    strength[:, 7] = 0
    pixels = (
        128
        + 50
        * torch.randn(50, 3, 16, 16, generator=noise)
        * (strength.unflatten(1, (4, 4)).repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None])
    )
    detail = patch_detail(pixels, TOKENS)
    corner = pixels[2, :, 4:8, 8:12].double()  # row 1, column 2
    np.testing.assert_allclose(detail[2, 6], corner.var((1, 2), correction=0).mean().sqrt())
    norms = made_up()
    norms[0, :, 1:] = 10 + detail / 50
    norms[1, :, 1:] = 12 - detail / 50
    norms[1, :, 8] = 100
    table = artifacts(norms, TOKENS, pixels)
    np.testing.assert_allclose(table["detail_correlation"], [1, -1], atol=1e-3)
    assert math.isnan(table["detail_outliers"][0]) and table["detail_outliers"][1] == 0
    assert table["outliers"].tolist() == [0, 1 / 16]
    np.testing.assert_allclose(table["detail_others"][0], detail.mean())
    np.testing.assert_allclose(table["detail_others"][1], detail.mean() * 16 / 15)


def test_norms_names_and_pixels_have_to_belong_together():
    with pytest.raises(ClipeduError, match="norms of 16 tokens don't go with the names of 17"):
        artifacts(made_up()[..., 1:], TOKENS)
    with pytest.raises(ClipeduError, match="norms of 50 images don't go with the pixels of 3"):
        artifacts(made_up(), TOKENS, pictures())
