"""Weights for images of another size: positions are resampled as the library does it, and the rest stays."""

import pytest
import torch

from clipedu import ClipeduError, Experiment, adopt
from clipedu.interop.kept import RELEASED, keep_released, rebuild
from clipedu.interop.resizing import resized_state
from clipedu.models import build_model

pytestmark = pytest.mark.xdist_group("interop")


@pytest.mark.parametrize("kind", ["vit", "clip"])
def test_a_released_model_is_what_its_library_makes_of_it(kind, released, tmp_path):
    folder = released(kind)[0]
    model, larger = adopt(folder), adopt(folder, image_size=48)
    keep_released(larger, str(folder), tmp_path)
    again = rebuild(tmp_path / RELEASED, 48)
    again.load_state_dict(resized_state(model, again, 48))
    pixels = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again.encode_image(pixels), larger.encode_image(pixels))
    assert again.image_size == 48
    with pytest.raises(ClipeduError, match="image_size=50 is no multiple of its patches' 8 pixels: take 48 or 56"):
        resized_state(model, again, 50)


def ours(encoder, image_size, **options):
    return build_model(Experiment(image_encoder=encoder, image_size=image_size, image_options=options), 50)


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        ("test_resnet", {}),
        ("test_vit", {}),
        ("vit_nano_patch4_32", {}),
        ("fractal_vit_nano_patch4_32", {"extra": "none", "pos_embed": "learned"}),
        ("fractal_vit_nano_patch4_32", {"extra": "none", "pos_embed": "rope"}),
        ("fractal_vit_nano_patch4_32", {"extra": "none", "pos_embed": "alibi"}),
    ],
)
def test_our_own_encoders_read_a_larger_image_much_as_the_smaller_one(encoder, options):
    """A smooth picture in both sizes: features are nearly the same, and those of other weights are not."""
    sizes = (64, 96) if encoder.startswith("test") else (32, 64)
    model, empty = ours(encoder, sizes[0], **options).eval(), ours(encoder, sizes[1], **options).eval()
    empty.load_state_dict(resized_state(model, empty, sizes[1]))
    for name, value in model.state_dict().items():
        if "pos_embed" not in name:
            assert torch.equal(empty.state_dict()[name], value), name
    row = torch.linspace(0, 255, 3)[None, None, :, None].repeat(1, 3, 1, 1)
    with torch.no_grad():
        small, large = (
            one.encode_image(torch.nn.functional.interpolate(row, (size, size), mode="bilinear"))
            for one, size in ((model, sizes[0]), (empty, sizes[1]))
        )
    assert torch.nn.functional.cosine_similarity(small, large).item() > 0.8


def test_what_depends_on_the_size_is_named():
    options = {"extra": "summary", "pos_embed": "learned"}
    model, empty = (ours("fractal_vit_nano_patch4_32", size, **options) for size in (32, 64))
    with pytest.raises(ClipeduError, match="reg_token of its image encoder is made for images of one size"):
        resized_state(model, empty, 64)
