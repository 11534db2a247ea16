"""Models of transformers go back into their classes."""

import pytest
import torch

from clipedu import ClipeduError
from clipedu.exports.native import family, fits, write
from clipedu.exports.release import open_release
from clipedu.exports.to_transformers import lines_transformers
from clipedu.workflow.opening import Scale
from tests.helpers.releases import photo, release, same

pytestmark = pytest.mark.xdist_group("exports")
CLASSES = {
    "clip": "CLIPModel",
    "siglip": "SiglipModel",
    "siglip2": "Siglip2Model",
    "dual": "VisionTextDualEncoderModel",
}


@pytest.mark.parametrize("kind", CLASSES)
def test_there_and_back(kind, released, tmp_path, monkeypatch):
    from transformers import AutoModel, AutoProcessor

    folder, library = released(kind)
    one = open_release(folder)
    with torch.no_grad():
        for parameter in one.model.parameters():  # as if it had been trained further
            parameter.mul_(1.01)
    assert fits(one) and f"{family(one)}Model" == CLASSES[kind]
    write(one, tmp_path)
    model, processor = AutoModel.from_pretrained(tmp_path).eval(), AutoProcessor.from_pretrained(tmp_path)
    assert type(model).__name__ == CLASSES[kind]
    assert float(model.logit_scale) == pytest.approx(float(library.logit_scale), abs=1e-6)
    before, after = library.state_dict(), model.state_dict()
    assert before.keys() == after.keys()
    moved = [name for name in before if not name.startswith("logit") and before[name].is_floating_point()]
    assert all(same(after[name], 1.01 * before[name], 1e-6) for name in moved)
    assert processor.tokenizer("a red star")["input_ids"]
    photo(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(lines_transformers(one, str(tmp_path), False), names)  # the card's own code: SigLIP reads its padding
    texts = {name: names["inputs"][name] for name in ("input_ids", "attention_mask") if name in names["inputs"]}
    with torch.no_grad():
        found = names["model"].get_text_features(**texts).pooler_output
        assert same(found, one.model.embed_texts(["a red star", "a blue circle"]))


def test_runs_of_clipedu_do_not_fit():
    assert not fits(release())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda one: setattr(one.model, "image_projection", torch.nn.Linear(32, 24)),
            "have a bias, for which transformers' CLIP",
        ),
        (
            lambda one: object.__setattr__(one, "scale", Scale(3.0, -2.0)),
            "has learned a bias, -2.000, for which transformers' CLIP",
        ),
        (
            lambda one: setattr(one.model, "geometry", release(geometry="elliptic").model.geometry),
            "the geometry 'elliptic'",
        ),
    ],
)
def test_what_the_class_has_no_place_for(change, said, released, tmp_path):
    one = open_release(released("clip")[0])
    change(one)
    with pytest.raises(ClipeduError, match=said):
        write(one, tmp_path)
