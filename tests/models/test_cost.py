"""Costs by the formula: counted by hand, and the MLP that makes up for tokens."""

import pytest

from clipedu.models.cost import block_cost, matched_mlp_ratio


@pytest.mark.parametrize("tokens, dim, ratio", [(5, 8, 4), (85, 64, 2), (1, 4, 0.5)])
def test_a_block_counted_by_hand(tokens, dim, ratio):
    linear = tokens * (dim * 3 * dim + dim * dim + 2 * dim * ratio * dim)  # QKV, out, MLP
    attention = 2 * tokens * tokens * dim  # scores and weighted sum
    assert block_cost(tokens, dim, ratio) == linear + attention


def test_vit_small_as_published():
    """12 blocks, patch embedding and a head of 1,000 classes, 256 pixels: 6.116 GMACs alone, 6.560 with 17 tokens more."""
    for tokens, published in ((256, 6.116), (256 + 17, 6.560), (256 + 85, 8.388)):
        whole = 12 * block_cost(tokens, 384) + 256 * 3 * 16 * 16 * 384 + 384 * 1000
        assert whole / 1e9 == pytest.approx(published, abs=6e-4)


@pytest.mark.parametrize("patches, extra, dim, ratio", [(64, 21, 64, 4.0), (256, 17, 384, 4.0), (16, 5, 32, 2.0)])
def test_matched_ratio_makes_up_for_the_tokens(patches, extra, dim, ratio):
    wider = matched_mlp_ratio(patches, extra, dim, ratio)
    assert block_cost(patches, dim, wider) == pytest.approx(block_cost(patches + extra, dim, ratio))
    assert wider > ratio and matched_mlp_ratio(patches, 0, dim, ratio) == ratio
