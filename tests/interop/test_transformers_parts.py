"""Models of transformers, taken apart: another image size, settings that cannot be used."""

from __future__ import annotations

import pytest
import torch

import clipedu
from clipedu import ClipeduError, adopt
from clipedu.inference.attention import name_tokens
from clipedu.interop.transformers_parts import model_classes
from tests.helpers.released import TRANSFORMERS

pytestmark = pytest.mark.xdist_group("interop")


@torch.no_grad()
@pytest.mark.parametrize(("kind", "size"), [("clip", 48), ("siglip", 64), ("dual", 16)])
def test_another_image_size_is_transformers_own(kind, size, released):
    folder, library = released(kind)
    model, pixels = adopt(folder, image_size=size), torch.randint(0, 256, (2, 3, size, size))
    theirs = library.get_image_features(
        pixel_values=model.normalise(pixels), interpolate_pos_encoding=True
    ).pooler_output
    torch.testing.assert_close(model.encode_image(pixels), theirs, rtol=1e-5, atol=2e-6)
    assert name_tokens(model).grid == (size // 8, size // 8)
    assert clipedu.attention_maps(model, pixels).shape[-1] == len(name_tokens(model).names)
    assert torch.equal(adopt(folder, image_size=32).encode_image(pixels[..., :1, :1].expand(2, 3, 32, 32)),
                       adopt(folder).encode_image(pixels[..., :1, :1].expand(2, 3, 32, 32)))  # fmt: skip


@torch.no_grad()
def test_siglip_2_reads_any_number_of_patches(released):
    folder, library = released("siglip2")
    model, pixels = adopt(folder, image_size=48), torch.randint(0, 256, (2, 3, 48, 48))
    given = model.image_encoder.inputs(model.normalise(pixels))
    theirs = library.vision_model(**given).pooler_output
    assert given["pixel_values"].shape == (2, 36, 192)
    torch.testing.assert_close(model.encode_image(pixels), theirs)


def test_a_size_that_is_no_multiple_and_one_that_is_its_own(released, broken):
    with pytest.raises(ClipeduError, match="image_size=35 is no multiple of its patches' 8 pixels: take 32 or 40"):
        adopt(released("clip")[0], image_size=35)
    folder = broken("clip", "config.json", lambda s: s["vision_config"].update(image_size=33))
    assert adopt(folder).image_size == 33  # what is left over is not seen, as with 384 pixels in patches of 14


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (2, "a text of at most 2 tokens has no place for a word, as the tokenizer adds 2"),
        ("16", "its tokenizer's model_max_length='16' must be a number of tokens"),
    ],
)
def test_a_length_of_texts_that_is_none(limit, message, broken):
    with pytest.raises(ClipeduError, match=message):
        adopt(broken("dual", "tokenizer_config.json", lambda s: s.update(model_max_length=limit)))


def test_a_limit_that_is_no_limit(broken):
    assert (
        adopt(broken("clip", "tokenizer_config.json", lambda s: s.update(model_max_length=-1))).tokenizer.length == 16
    )


@pytest.mark.parametrize("kind", ["clip", "dual"])
def test_a_pad_token_that_the_model_does_not_have(kind, broken):
    with pytest.raises(ClipeduError, match=r"pad token is number \d+, and the model has \d+ tokens"):
        adopt(broken(kind, "tokenizer_config.json", lambda s: s.update(pad_token="<other>")))


def test_a_processor_without_a_mean(broken):
    with pytest.raises(ClipeduError, match="the mean of its images, None, must be three numbers"):
        adopt(broken("clip", "preprocessor_config.json", lambda s: s.update(image_mean=None)))


def test_model_types_that_are_taken():
    assert set(model_classes()) == {"clip", "siglip", "siglip2", "vision-text-dual-encoder"}
    assert set(TRANSFORMERS) >= {"clip", "siglip", "siglip2", "dual"}
