"""Image encoders as timm makes them again."""

import pytest
import timm
import torch

from clipedu import ClipeduError
from clipedu.exports.timm_tower import timm_tower
from clipedu.models.image_encoders import build_image_encoder
from tests.helpers.releases import VIT, same

pytestmark = pytest.mark.xdist_group("exports")

OPTIONS = {
    "plain": ("vit_nano_patch4_32", {}),
    "registers": ("vit_nano_patch4_32", {"extra": "registers", "registers": 3}),
    "wide": ("vit_nano_patch4_32", {"extra": "wide"}),
    "summary": ("vit_nano_patch4_32", {"extra": "summary", "summary": "sincos2d"}),
    "nope": ("vit_nano_patch4_32", {"pos_embed": "none"}),
    "rope": ("vit_nano_patch4_32", {"pos_embed": "rope", "extra": "registers", "registers": 2}),
    "narrow": ("test_resnet", {}),
    "drop": ("vit_nano_patch4_32", {"drop_path_rate": 0.3, "norm_layer": "rmsnorm", "qkv_bias": False}),
    "rope-norm": ("vit_nano_patch4_32", {"pos_embed": "rope", "qkv_bias": False}),
    "fractal": ("fractal_vit_nano_patch4_32", {}),
    "alibi": ("fractal_vit_nano_patch4_32", {"pos_embed": "alibi"}),
    "fractal-rope": ("fractal_vit_nano_patch4_32", {"pos_embed": "rope"}),
}


def test_a_classifier_that_was_taken_off_later():
    """As open_clip does."""
    encoder = timm.create_model("test_vit", num_classes=5)
    encoder.reset_classifier(0)
    timm_tower(encoder).build().load_state_dict(encoder.state_dict())


@pytest.mark.parametrize("kind", OPTIONS)
@torch.no_grad()
def test_timm_alone_makes_the_same(kind):
    name, options = OPTIONS[kind]
    options = options | (VIT if "vit" in name else {})
    encoder = build_image_encoder(name, image_size=32, **options).eval()
    tower = timm_tower(encoder)
    assert not tower.architecture.startswith(("vit_nano", "fractal"))
    again = tower.build()
    again.load_state_dict(encoder.state_dict())
    pixels = torch.randn(2, 3, 32, 32)
    if tower.mask is None:
        assert same(again(pixels), encoder(pixels), 1e-6)
    else:
        assert kind.startswith(("fractal", "alibi"))
        assert same(again.forward_head(again.forward_features(pixels, attn_mask=tower.mask)), encoder(pixels), 1e-6)


def test_what_is_none_of_timm():
    assert timm_tower(torch.nn.Flatten()) is None


def test_an_argument_that_no_file_can_hold():
    encoder = build_image_encoder("test_resnet", act_layer=torch.nn.ReLU)
    with pytest.raises(ClipeduError, match="'test_resnet' cannot be exported: image_options=.*not plain numbers"):
        timm_tower(encoder)
