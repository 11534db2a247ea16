"""Names, folders and files: which library's model they are."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from clipedu import ClipeduError
from clipedu.interop.sources import find_source, library_of

pytestmark = pytest.mark.xdist_group("interop")


def test_names_of_open_clip():
    found = find_source("open_clip:ViT-B-32")
    assert (found.library, found.where, found.name, found.weights, found.on_hub) == (
        "open_clip", "ViT-B-32", "open_clip:ViT-B-32", None, False,
    )  # fmt: skip
    assert find_source("open_clip:hf-hub:timm/x").where == "hf-hub:timm/x"


@pytest.mark.parametrize(
    ("kind", "library"), [("clip", "transformers"), ("dual", "transformers"), ("vit", "open_clip")]
)
def test_folders_and_files_by_what_they_contain(kind, library, released, monkeypatch):
    folder, _ = released(kind)
    where = f"local-dir:{folder}" if library == "open_clip" else str(folder)
    for given in (folder, str(folder)):
        found = find_source(given)
        assert (found.library, found.where, found.weights) == (library, where, None)
    file = next(folder.glob("*.safetensors"))
    found = find_source(file)
    assert (found.library, found.where, found.weights) == (library, where, file)
    monkeypatch.chdir(folder.parent)
    assert find_source(folder.name).library == library


def test_settings_of_both_libraries(released, tmp_path):
    """The weights that are there decide; of a repository, of which the weights are not there yet, transformers' are taken."""
    both = tmp_path / "both"
    shutil.copytree(released("vit")[0], both)
    shutil.copy(released("clip")[0] / "config.json", both)
    assert library_of(both, "both") == "open_clip"
    assert library_of(both, "both", downloaded=False) == "transformers"
    shutil.copy(released("clip")[0] / "model.safetensors", both)
    assert library_of(both, "both") == "transformers"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "openclip:ViT-B-32",
            "unknown model 'openclip:ViT-B-32': no such folder or file. Did you mean 'open_clip:ViT-B-32'?",
        ),
        ("hf-hub:own/clip", "Did you mean 'hf:own/clip'?"),
        ("ViT-B-32", "Did you mean 'open_clip:ViT-B-32'?"),
        ("openai/clip-vit-base-patch32", "Did you mean 'hf:openai/clip-vit-base-patch32'?"),
        (
            "./no/where",
            "unknown model './no/where': no such folder or file. Allowed: open_clip:NAME, hf:OWNER/NAME, or a folder",
        ),
        ("", "an empty name is no model"),
        ("hf: ", "'hf: ' names no model"),
        ("open_clip:", "'open_clip:' names no model"),
        ("a\0b", "no such folder or file"),
        ("x" * 5000, "no such folder or file"),
        (3, "unknown model '3'"),
    ],
)
def test_what_is_none(given, message):
    with pytest.raises(ClipeduError) as caught:
        find_source(given)
    assert message in str(caught.value) and len(str(caught.value)) < 300


def test_folders_without_a_model(released, tmp_path):
    with pytest.raises(ClipeduError, match="holds no model: it has neither transformers' config.json .* but nothing$"):
        find_source(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ClipeduError, match="is a model of type 'bert', and no dual encoder of images and texts"):
        find_source(tmp_path)
    (tmp_path / "experiment.json").write_text("{}")
    with pytest.raises(ClipeduError, match=r"is a run of clipedu: its model is clipedu.load_run\('.*'\).model\(\)"):
        find_source(tmp_path)


def test_files_without_settings(released, tmp_path):
    for kind, whose in (
        ("vit", "open_clip, and the model's name does not stand in it: give open_clip:NAME as the model, and /"),
        ("clip", "transformers, and its config.json"),
    ):
        file = tmp_path / f"{kind}.safetensors"
        shutil.copy(next(released(kind)[0].glob("*.safetensors")), file)
        with pytest.raises(ClipeduError, match=f"holds weights of {whose}"):
            find_source(file)
    torch.save({"w": torch.ones(2)}, tmp_path / "w.pt")
    with pytest.raises(ClipeduError, match="w.pt holds no CLIP that is known here: its first tensor is 'w'"):
        find_source(tmp_path / "w.pt")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ClipeduError, match="notes.txt is no file of weights: its name must end in .safetensors or .pt"):
        find_source(tmp_path / "notes.txt")


@pytest.mark.parametrize("kind", ["clip", "vit"])
def test_a_pointer_of_git_lfs(kind, released, tmp_path):
    folder = tmp_path / kind
    shutil.copytree(released(kind)[0], folder)
    (file,) = folder.glob("*.safetensors")
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    alone = tmp_path / "alone.pt"
    shutil.copy(file, alone)
    for given in (folder, file, alone):
        with pytest.raises(
            ClipeduError, match="is no file of weights but Git LFS's pointer to it: fetch it with git lfs pull"
        ):
            find_source(given)


def test_a_path_that_is_missing_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ClipeduError, match="no such folder or file. Allowed"):
        find_source("runs/quickstart-1")
    (tmp_path / "runs" / "quickstart-2").mkdir(parents=True)
    with pytest.raises(ClipeduError, match="Did you mean 'runs/quickstart-2'"):
        find_source("runs/quickstart-1")
    with pytest.raises(ClipeduError, match="Did you mean 'hf:openai/clip'"):
        find_source("openai/clip")
