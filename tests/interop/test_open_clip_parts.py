"""Models of open_clip, taken apart: another image size."""

from __future__ import annotations

import logging

import pytest
import torch

import clipedu
from clipedu import ClipeduError, adopt
from clipedu.inference.attention import name_tokens, reads_attention
from clipedu.interop.open_clip_parts import quiet_open_clip

pytestmark = pytest.mark.xdist_group("interop")


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "size"),
    [("vit", 48), ("coca", 64), ("timm_vit", 80), ("timm_eva", 112), ("timm_convnext", 96)],
)
def test_another_image_size_is_open_clips_own(kind, size, released):
    """As its `force_image_size` makes it, of the same weights."""
    import open_clip

    folder, _ = released(kind)
    with quiet_open_clip():
        library = open_clip.create_model(f"local-dir:{folder}", force_image_size=size).eval()
    model = adopt(folder, image_size=size)
    assert model.image_size == size
    pixels = torch.randint(0, 256, (2, 3, size, size))
    torch.testing.assert_close(
        model.encode_image(pixels), library.encode_image(model.normalise(pixels), normalize=False), rtol=1e-5, atol=2e-6
    )
    if kind in ("vit", "timm_vit"):
        tokens = name_tokens(model)
        assert reads_attention(model, size) and len(tokens.names) == 1 + (size // {"vit": 8, "timm_vit": 16}[kind]) ** 2
        assert clipedu.token_norms(model, pixels).shape[-1] == len(tokens.names)


def test_its_own_size_changes_nothing_and_positions_learn(released):
    folder, _ = released("vit")
    pixels = torch.randint(0, 256, (2, 3, 32, 32))
    assert torch.equal(adopt(folder, image_size=32).encode_image(pixels), adopt(folder).encode_image(pixels))
    model = adopt(folder, image_size=64)
    model.encode_image(torch.randint(0, 256, (2, 3, 64, 64))).sum().backward()
    assert model.image_encoder.visual.positional_embedding.grad.shape == (65, 32)


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("vit", 35, "image_size=35 is no multiple of its patches' 8 pixels: take 32 or 40"),
        ("timm_eva", 240, "image_size=240 is no multiple of its patches' 14 pixels: take 238 or 252"),
        ("resnet", 64, r"its image tower cannot read images of 64 x 64 pixels \(its own have 32 x 32\): "),
    ],
)
def test_a_size_that_it_cannot_read(kind, size, message, released):
    with pytest.raises(ClipeduError, match=message):
        adopt(released(kind)[0], image_size=size)


def test_images_that_are_not_square(broken):
    folder = broken("vit", "open_clip_config.json", lambda s: s["model_cfg"]["vision_cfg"].update(image_size=[32, 64]))
    with pytest.raises(ClipeduError, match="are not square, and clipedu's are: give image_size=N"):
        adopt(folder, "random")


def test_open_clip_is_quiet_and_its_logger_as_before():
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    with quiet_open_clip():
        logging.warning("not shown")
    assert before == (root.level, root.handlers)
