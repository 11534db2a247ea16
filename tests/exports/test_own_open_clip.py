"""Models of open_clip go back to open_clip."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from clipedu import ClipeduError, adopt
from clipedu.exports.own_open_clip import KEPT, fits, own_settings, write_own
from clipedu.exports.release import open_release
from clipedu.exports.to_open_clip import lines_open_clip, write_open_clip
from clipedu.workflow.opening import Scale
from tests.helpers.releases import photo, release, same

pytestmark = pytest.mark.xdist_group("exports")


@pytest.mark.parametrize("kind", ["vit", "timm_siglip", "coca"])
def test_there_and_back(kind, released, tmp_path, monkeypatch):
    import open_clip

    folder, library = released(kind)
    one = open_release(folder)
    assert fits(one)
    with torch.no_grad():
        for parameter in one.model.parameters():  # as if it had been trained further
            parameter.mul_(1.01)
    write_open_clip(one, tmp_path, "me/x")
    assert json.loads((tmp_path / "open_clip_config.json").read_text())["preprocess_cfg"]["resize_mode"] == "squash"
    again = open_release(tmp_path)
    assert all(same(x, y, 1e-6) for x, y in zip(again.embeddings(), one.embeddings(), strict=True))
    made = open_clip.create_model(f"local-dir:{tmp_path}", require_pretrained=True)
    photo(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(lines_open_clip(one, str(tmp_path), False), {})  # the card's own code: CoCa has no `get_logits`
    assert float(made.logit_scale.detach()) == pytest.approx(float(library.logit_scale.detach()), abs=1e-6)
    assert (made.logit_bias is None) == (library.logit_bias is None)


def test_a_run_that_began_with_one(released, trained, tmp_path):
    """Its settings are in the run's folder; its loss has learned a bias."""
    folder = released("vit")[0]
    run = replace(trained, folder=tmp_path / "run")
    kept = tmp_path / "run" / KEPT
    kept.mkdir(parents=True)
    one = replace(open_release(folder), run=run, scale=Scale(5.0, -2.0), name="run")
    with pytest.raises(ClipeduError, match="run does not say any more which model of open_clip it is"):
        own_settings(one, "me/x")
    shutil.copy(folder / "open_clip_config.json", kept)
    (out := tmp_path / "out").mkdir()
    write_own(one, out, "me/x")
    again = open_release(out)
    assert again.scale.logit_scale == pytest.approx(5) and again.bias == -2


def test_what_does_not_go_back(released, tmp_path):
    assert not fits(release())
    one = open_release(released("vit")[0])
    one.model.geometry = release(geometry="lorentz").model.geometry
    with pytest.raises(ClipeduError, match="'lorentz', and open_clip knows the cosine alone"):
        write_own(one, tmp_path, "x")


@pytest.mark.parametrize(("kind", "size"), [("vit", 64), ("timm_convnext", 192)])
def test_images_of_another_size(kind, size, released, tmp_path):
    folder = released(kind)[0]
    one = replace(open_release(folder), model=adopt(folder, image_size=size), image_size=size)
    write_own(one, tmp_path, "me/x")
    again = open_release(tmp_path)
    assert again.image_size == size
    assert all(same(x, y, 1e-6) for x, y in zip(again.embeddings(), one.embeddings(), strict=True))


def test_positions_of_timm_are_of_one_size_in_open_clip(released, tmp_path):
    folder = released("timm_vit")[0]
    one = replace(open_release(folder), model=adopt(folder, image_size=192), image_size=192)
    with pytest.raises(
        ClipeduError, match="192 x 192 pixels, and open_clip builds test_vit for 160 x 160 alone: --to timm"
    ):
        write_own(one, tmp_path, "me/x")
