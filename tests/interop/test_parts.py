"""The parts of a model, put together."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from clipedu import ClipeduError
from clipedu.interop.parts import NORM_PARTS, Parts, assemble
from clipedu.utils.finite import NotFinite


class Texts(nn.Module):
    """One-hot codes of the first token; or the states of all tokens."""

    def __init__(self, pools: bool = True):
        super().__init__()
        self.pools = pools

    def forward(self, input_ids, attention_mask):
        states = nn.functional.one_hot(input_ids, 9).float()
        return states[:, 0] if self.pools else states


def parts(**changes) -> Parts:
    tokenizer = SimpleNamespace(
        encode=lambda texts, strict=False: (np.full((len(texts), 4), 3, np.int32), np.full(len(texts), 2))
    )
    plain = Parts(
        "mine", nn.Flatten(), Texts(), nn.Linear(192, 5, bias=False), nn.Linear(9, 5), tokenizer,
        None, 8, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0), "squash", 2.0, -10.0,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def test_what_a_model_says_of_itself():
    model = assemble(parts(), torch.bfloat16)
    assert (model.image_size, model.resize, model.logit_scale, model.logit_bias) == (8, "squash", 2.0, -10.0)
    assert model.widths == {"image": 192, "text": 9} and model.parts is NORM_PARTS and not model.training
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16} and model.mean.dtype == torch.float32
    assert model.mean.flatten().tolist() == pytest.approx([25.5, 51, 76.5])


def test_no_projection():
    model = assemble(parts(image_projection=nn.Sequential(), text_projection=nn.Linear(9, 192)), torch.float32)
    pixels = torch.zeros(1, 3, 8, 8)
    torch.testing.assert_close(model.encode_image(pixels), model.image_features(pixels))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"text_encoder": Texts(pools=False)},
            r"^mine: its text tower has no pooling, it gives \[1, 2, 9\] for one text instead",
        ),
        (
            {"image_encoder": nn.Identity()},
            r"^mine: its image tower has no pooling, it gives \[1, 3, 8, 8\] for one image",
        ),
        ({"text_projection": nn.Linear(9, 6)}, "^mine: its image embeddings have 5 numbers and its text embeddings 6"),
        ({"image_encoder": nn.Linear(7, 2)}, "^mine: its image tower cannot be run: .*mat1 and mat2 shapes"),
        ({"image_projection": nn.Linear(7, 2)}, "^mine: its image tower cannot be run"),
    ],
)
def test_what_does_not_fit(changes, message):
    with pytest.raises(ClipeduError, match=message):
        assemble(parts(**changes), torch.float32)


def test_weights_that_are_not_finite():
    head = nn.Linear(9, 5)
    with torch.no_grad():
        head.weight[0, 0] = torch.nan
    with pytest.raises(
        NotFinite, match="^mine: the weight 'text_projection.weight' .NaN. is not finite: take a model that works$"
    ):
        assemble(parts(text_projection=head), torch.float32)
    large = nn.Linear(9, 5)
    with torch.no_grad():
        large.weight.fill_(1e5)  # which float16 does not hold
    with pytest.raises(NotFinite, match="or dtype=torch.float32$"):
        assemble(parts(text_projection=large), torch.float16)


def test_images_of_another_size_than_its_own():
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(192, 192))
    with pytest.raises(
        ClipeduError, match=r"^mine: its image tower cannot read images of 16 x 16 pixels .its own have 8 x 8.: "
    ):
        assemble(parts(image_encoder=fixed, image_size=16, own_size=8), torch.float32)
