"""Models loaded back by transformers, where clipedu cannot be imported."""

import ast
import os
import sys

import pytest
import torch

from clipedu import ClipeduError
from clipedu.exports.release import open_release
from clipedu.exports.to_transformers import lines_transformers, write_transformers
from clipedu.workflow.opening import Scale
from tests.helpers.releases import VIT, photo, release, same

pytestmark = pytest.mark.xdist_group("exports")
FRACTAL = {"image_encoder": "fractal_vit_nano_patch4_32", "image_options": VIT}
KINDS = {
    "as it is": {"scale": None},
    "bias": {"projection_bias": True, "scale": Scale(9.0, -4.0)},
    "fractal": FRACTAL,
    "without last norms": {**FRACTAL, "final_norm": False},
    "alibi": {**FRACTAL, "image_options": VIT | {"pos_embed": "alibi"}},
    "rope": {**FRACTAL, "image_options": VIT | {"pos_embed": "rope", "extra": "registers", "registers": 2}},
    "mpnet": {
        "text_encoder": "mpnet",
        "text_options": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    },  # whose padding has an index in its code
    "padded": {"text_encoder": "fnet", "text_options": {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32}},
    "lorentz": {"geometry": "lorentz", "clean": True},
    "last": {
        "text_encoder": "gpt2", "text_options": {"n_embd": 16, "n_layer": 1, "n_head": 2}, "text_pooling": "last", "resize": "squash",
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_written_and_compared(kind, tmp_path):
    one = release(**KINDS[kind])
    write_transformers(one, tmp_path, "x")  # which loads and compares
    assert {"config.json", "model.safetensors", "modeling_clipedu.py", "processor_config.json"} <= set(
        os.listdir(tmp_path)
    )
    assert "/home" not in (tmp_path / "config.json").read_text()


def test_without_clipedu(tmp_path, monkeypatch):
    """Its code imports nothing of it, and works where nothing of it can be imported: with the pipeline of transformers, too."""
    from PIL import Image
    from transformers import pipeline

    one = release(geometry="lorentz", scale=Scale(3.0, learned=True))
    folder = tmp_path / "exported"
    folder.mkdir()
    write_transformers(one, folder, "x")
    pixels, names = photo(tmp_path / "photo.jpg"), {}
    code = ast.parse((folder / "modeling_clipedu.py").read_text())
    imported = {node.module for node in ast.walk(code) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(code) if isinstance(node, ast.Import) for name in node.names}
    assert {name.partition(".")[0] for name in imported if name} == {
        "__future__", "dataclasses", "math", "timm", "torch", "transformers", "typing",
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as alone:
        alone.setitem(sys.modules, "clipedu", None)
        exec(lines_transformers(one, str(folder), False), names)
        model, inputs = names["model"], names["inputs"]
        with pytest.raises(ImportError):
            import clipedu.utils.errors  # noqa: F401
        with torch.no_grad():
            image = model.get_image_features(inputs["pixel_values"])
            text = model.get_text_features(inputs["input_ids"], inputs["attention_mask"])
            logits = model(**inputs).logits_per_image
        found = pipeline("zero-shot-image-classification", model=str(folder), trust_remote_code=True)
        assert found(Image.open("photo.jpg"), candidate_labels=["red star"])[0]["label"] == "red star"
    assert type(model).__module__.startswith("transformers_modules.")
    with torch.no_grad():
        ours = one.model.encode_image(pixels), one.model.embed_texts(["a red star", "a blue circle"])
        assert same(image, ours[0]) and same(text, ours[1])
        torch.testing.assert_close(logits, 3 * one.model.geometry.similarity(*ours), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: setattr(model, "image_encoder", torch.nn.Flatten()), r"\(Flatten\) is none of timm's"),
        (lambda model: setattr(model, "text_pooling", "own"), r"the text encoder of a small model \(DistilBertModel\)"),
        (lambda model: setattr(model, "image_projection", torch.nn.Identity()), r"is no linear layer \(Identity\)"),
    ],
)
def test_what_the_code_does_not_compute(change, said, tmp_path):
    one = release()
    change(one.model)
    with pytest.raises(ClipeduError, match=said):
        write_transformers(one, tmp_path, "x")


def test_a_class_of_the_library_where_one_fits(released, tmp_path):
    one = open_release(released("clip")[0])
    write_transformers(one, tmp_path, "x")
    assert not (tmp_path / "modeling_clipedu.py").exists()
    assert "trust_remote_code" not in lines_transformers(one, "me/x", True) and '"me/x"' in lines_transformers(
        one, "me/x", True
    )
