"""Image towers, loaded back by timm."""

import json

import pytest
import timm
import torch
from PIL import Image

from clipedu import ClipeduError
from clipedu.exports.to_timm import compare_image, lines_timm, write_timm
from tests.helpers.releases import VIT, photo, release, same

pytestmark = pytest.mark.xdist_group("exports")
REGISTERS = {"image_encoder": "vit_nano_patch4_32", "image_options": VIT | {"extra": "registers", "registers": 2}}


@pytest.mark.parametrize("projection", [False, True])
@pytest.mark.parametrize("changes", [{}, REGISTERS, {"projection_bias": True, "resize": "squash"}])
def test_loaded_by_timm(changes, projection, tmp_path, monkeypatch):
    one = release(**changes)
    write_timm(one, tmp_path, "x", projection=projection)
    pixels = photo(tmp_path / "photo.jpg")
    names = {}
    monkeypatch.chdir(tmp_path)
    exec(lines_timm(one, str(tmp_path), False), names)
    with torch.no_grad():
        out = names["model"](names["transform"](Image.open("photo.jpg").convert("RGB"))[None])
        features = one.model.image_features(pixels)
    assert same(out, one.model.project_image(features) if projection else features)
    settings = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    assert settings["mean"] == one.mean and settings["std"] == one.std and settings["input_size"] == [3, 32, 32]
    assert (
        settings["crop_mode"] == ("squash" if one.resize == "squash" else "center")
        and settings["interpolation"] == "bicubic"
    )


@pytest.mark.parametrize(
    ("changes", "projection", "said"),
    [
        ({"image_encoder": "fractal_vit_nano_patch4_32", "image_options": VIT}, False, "an attention mask of its own"),
        (
            REGISTERS | {"final_norm": False},
            False,
            "have no last norm .* of timm have one: --to transformers and onnx leave it",
        ),
        ({"geometry": "lorentz"}, True, "'lorentz', which timm does not have: leave the projection out"),
    ],
)
def test_what_timm_has_no_place_for(changes, projection, said, tmp_path):
    with pytest.raises(ClipeduError, match=said):
        write_timm(release(**changes), tmp_path, "x", projection=projection)


def test_features_of_any_geometry(tmp_path):
    write_timm(release(geometry="euclidean"), tmp_path, "x")


def test_another_tower_is_noticed():
    with pytest.raises(ClipeduError, match="the image encoder of a small model cannot be exported"):
        compare_image(release(), timm.create_model("test_resnet", num_classes=0).eval(), projection=False)


def test_the_code_of_a_repository():
    assert 'create_model("hf-hub:me/x", pretrained=True)' in lines_timm(release(), "me/x", True)
