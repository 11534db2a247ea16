"""Relative representations: what they do not depend on, and towers of two spaces stitched by them."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from clipedu import ClipeduError
from clipedu.evaluation.recall import retrieval
from clipedu.evaluation.relative import relative, stitched_retrieval
from clipedu.geometry import build_geometry
from clipedu.utils.finite import NotFinite

RANDOM = torch.Generator().manual_seed(0)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=RANDOM, dtype=torch.float64)


def turned(dim: int) -> torch.Tensor:
    """An orthogonal matrix [dim, dim]; about half of them mirror, too."""
    return torch.linalg.qr(draw(dim, dim)).Q


def test_they_are_cosines():
    x, anchors = draw(4, 6), draw(3, 6)
    found = relative(x.float(), anchors.float())
    assert found.dtype == torch.float64 and found.shape == (4, 3)
    torch.testing.assert_close(found, cosine_similarity(x[:, None], anchors[None], dim=2), rtol=0, atol=1e-6)
    centred = relative(x, anchors, centred=True)
    middle = (anchors / anchors.norm(dim=1, keepdim=True)).mean(0)
    shifted = [y / y.norm(dim=1, keepdim=True) - middle for y in (x, anchors)]
    torch.testing.assert_close(centred, cosine_similarity(shifted[0][:, None], shifted[1][None], dim=2))


@pytest.mark.parametrize("centred", [False, True])
def test_turning_mirroring_and_lengths_change_nothing(centred):
    x, anchors = draw(20, 8), draw(12, 8)
    before, turn = relative(x, anchors, centred=centred), turned(8)
    mirror = torch.diag(torch.tensor([-1.0] + [1.0] * 7, dtype=torch.float64))
    for matrix in (turn, turn @ mirror, 7.0 * turn):
        torch.testing.assert_close(relative(x @ matrix, anchors @ matrix, centred=centred), before, rtol=0, atol=1e-12)
    longer = draw(20, 1).abs() + 0.1, draw(12, 1).abs() + 0.1
    torch.testing.assert_close(
        relative(longer[0] * x, longer[1] * anchors, centred=centred), before, rtol=0, atol=1e-12
    )
    assert (relative(x @ turn, anchors, centred=centred) - before).abs().max() > 0.1  # the anchors must turn, too


def test_towers_of_two_spaces_are_stitched():
    """A space, turned: coordinates are at chance, cosines to anchors are as before. A gap between the sides is centred away."""
    content, anchors, gap = draw(200, 16), draw(60, 16), 3 * draw(1, 16)
    owner = torch.arange(200).repeat_interleave(2)
    captions = content[owner] + 0.2 * draw(400, 16)
    turn, cosine = turned(16), build_geometry("cosine", 16)
    whole = retrieval(content, captions, owner, cosine)
    chance = retrieval(content, captions @ turn, owner, cosine)
    given = {"image_anchors": anchors, "text_anchors": anchors @ turn}
    stitched = stitched_retrieval(content, captions @ turn, owner, **given)
    assert whole["tr@1"] > 95 and chance["tr@1"] < 10 and chance["ir@1"] < 10
    assert stitched["tr@1"] > 90 and stitched["ir@1"] > 90 and stitched["retrieval_captions"] == 400
    apart = {"image_anchors": anchors, "text_anchors": (anchors + gap) @ turn}
    moved = (captions + gap) @ turn
    plain = stitched_retrieval(content, moved, owner, **apart, centred=False)
    assert stitched_retrieval(content, moved, owner, **apart)["tr@1"] > plain["tr@1"] + 10


def test_towers_of_different_widths_are_stitched():
    content, anchors, wider = draw(100, 8), draw(40, 8), torch.linalg.qr(draw(12, 8)).Q.T
    found = stitched_retrieval(
        content, content @ wider, torch.arange(100), image_anchors=anchors, text_anchors=anchors @ wider, ks=(1,)
    )
    assert found["tr@1"] == found["ir@1"] == 100


@pytest.mark.parametrize(
    ("x", "anchors", "centred", "message"),
    [
        (torch.ones(3, 4), torch.ones(2, 5), False, r"embeddings \[3, 4\] and anchors \[2, 5\] do not fit"),
        (torch.ones(4), torch.ones(2, 4), False, r"embeddings \[4\] and anchors"),
        (torch.ones(3, 4), torch.ones(0, 4), False, "0 anchors are too few: at least 1$"),
        (torch.ones(3, 4), torch.ones(1, 4), True, "1 anchors are too few: at least 2, to be centred"),
    ],
)
def test_what_does_not_fit(x, anchors, centred, message):
    with pytest.raises(ClipeduError, match=message):
        relative(x, anchors, centred=centred)


def test_anchors_are_pairs_and_finite():
    with pytest.raises(ClipeduError, match="3 pictures and 2 captions are no anchors"):
        stitched_retrieval(
            torch.ones(2, 4),
            torch.ones(2, 4),
            torch.arange(2),
            image_anchors=torch.ones(3, 4),
            text_anchors=torch.ones(2, 4),
        )
    with pytest.raises(NotFinite):
        relative(torch.full((2, 4), float("nan")), torch.ones(2, 4))
