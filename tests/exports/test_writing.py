"""`clipedu.export`: the folder, the card, and what is refused."""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

import clipedu
from clipedu import ClipeduError
from clipedu.exports import writing
from clipedu.exports.writing import check_free, default_folder
from tests.helpers.fetching import serving
from tests.helpers.hub_server import TOKEN, Fault
from tests.helpers.releases import photo, same

pytestmark = pytest.mark.xdist_group("exports")


def test_a_folder_with_a_card(trained, tmp_path):
    run = shutil.copytree(trained.folder, tmp_path / "mine")
    done = clipedu.export(run, "timm", projection=True, licence="mit")
    assert done.folder == run / "export-timm" and done.page is None
    assert {path.name for path in done.folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    card = (done.folder / "README.md").read_text()
    assert "license: mit" in card and "local-dir:export-timm" in card and str(tmp_path) not in card
    assert f"local-dir:{run}/export-timm" in done.code and "embeddings of 8 numbers" in card
    assert done.size == sum(path.stat().st_size for path in done.folder.iterdir())
    clipedu.load_run(run)
    with pytest.raises(ClipeduError, match="export-timm is there already and is not empty: nothing is overwritten"):
        clipedu.export(run, "timm")
    assert clipedu.export(run, "timm", tmp_path / "new" / "place").folder == tmp_path / "new" / "place"
    assert "features of 96 numbers, before the projection to the 8" in (tmp_path / "new/place/README.md").read_text()


def test_nothing_is_left_of_what_fails(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "model_card", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        clipedu.export(trained.folder, "timm", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": "transformer"}, "unknown library 'transformer'. Did you mean 'transformers'?"),
        ({"to": "onnx", "projection": True}, "no place of its own in --to onnx"),
        ({"to": "timm", "private": True}, "--private has no effect without --push-to-hub"),
        ({"to": "timm", "licence": " "}, "is no name of a licence"),
        ({"to": "timm", "push_to_hub": "x"}, "'x' is no name of a repository"),
        ({"to": "timm", "push_to_hub": "me/x"}, "HF_HUB_OFFLINE is set"),
    ],
)
def test_refused_before_any_work(options, said, trained, tmp_path, monkeypatch, token):
    monkeypatch.setattr(writing, "open_release", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ClipeduError, match=said):
        clipedu.export(trained.folder, folder=tmp_path / "out", **options)
    assert not list(tmp_path.glob("out*"))


def test_places(trained, tmp_path):
    assert default_folder(str(trained.folder), "timm") == trained.folder / "export-timm"
    assert default_folder("hf:openai/clip-vit", "onnx") == Path("runs/export-hf_openai_clip-vit-onnx")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    check_free(tmp_path / "empty"), check_free(tmp_path / "none")
    for name, what in (("file", "is no folder"), ("", "is not empty")):
        with pytest.raises(ClipeduError, match=what):
            check_free(tmp_path / name)
    check_free(trained.folder / "export-mine")
    for place in ("released", "checkpoint/mine"):
        with pytest.raises(ClipeduError, match="among its own files"):
            check_free(trained.folder / place)


def test_a_place_that_cannot_be_written_is_refused_before_the_model_is_opened(trained, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(writing, "open_release", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ClipeduError, match="cannot be written: Not a directory. Give another --out"):
        clipedu.export(trained.folder, "timm", tmp_path / "file" / "out")


def test_an_empty_folder_by_other_names(trained, tmp_path, monkeypatch):
    """A link to one is taken; the current one is not, as a process would be left in a folder that is gone."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    assert clipedu.export(trained.folder, "timm", tmp_path / "link").folder == (tmp_path / "empty").resolve()
    assert (tmp_path / "link/README.md").is_file()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in (".", tmp_path / "here"):
        with pytest.raises(ClipeduError, match="is the current folder, which cannot be replaced: give a new one in it"):
            clipedu.export(trained.folder, "timm", name)


def test_a_push_that_failed_goes_on_by_the_same_command(trained, token, tmp_path, monkeypatch):
    faults = [Fault(status=507)]
    export = partial(clipedu.export, trained.folder, "timm", tmp_path / "out")

    def fault(request):
        return faults.pop() if faults and request.path.endswith("preupload/main") else None

    with serving(tmp_path / "hub", monkeypatch, fault):
        with pytest.raises(ClipeduError, match=r"the hub answers 507 .* are in .*out: the same command publishes them"):
            export(push_to_hub="me/x")
        assert (weights := tmp_path / "out/model.safetensors").is_file()
        wrote = weights.stat().st_mtime_ns
        assert export(push_to_hub="me/x").page.endswith("me/x") and weights.stat().st_mtime_ns == wrote
        assert (tmp_path / "hub/me/x/model.safetensors").is_file()
        for changes, name in (({"licence": "mit"}, "README.md"), ({"projection": True}, "README.md")):
            with pytest.raises(ClipeduError, match=f"its {name} is not what this command writes: nothing"):
                export(push_to_hub="me/x", **changes)
        (tmp_path / "out/notes.txt").touch()
        with pytest.raises(ClipeduError, match=r"its notes.txt is not what this command writes"):
            export(push_to_hub="me/x")
        with pytest.raises(ClipeduError, match="nothing is overwritten"):
            export()


@pytest.mark.parametrize("to", ["transformers", "open_clip", "timm"])
def test_published_and_loaded_from_the_hub(to, trained, token, tmp_path, monkeypatch):
    """By the code of the card there, which names the repository."""
    from huggingface_hub import HfApi, ModelCard, constants

    pixels = photo(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    with serving(tmp_path / "hub", monkeypatch):
        api = HfApi(endpoint=constants.ENDPOINT, token=TOKEN)  # libraries keep one, with the endpoint of its first use
        monkeypatch.setattr("transformers.utils.hub._hf_api", api, raising=False)
        done = clipedu.export(trained.folder, to, tmp_path / "out", push_to_hub="me/mine")
        assert done.page == f"{constants.ENDPOINT}/me/mine"
        card = ModelCard.load(tmp_path / "hub/me/mine/README.md")
        code = card.text.partition("```python\n")[2].partition("```")[0]
        assert code.strip() == done.code and "me/mine" in code and str(tmp_path) not in card.content
        shutil.rmtree(tmp_path / "out")
        names = {}
        exec(code, names)
        loaded, model = names["model"].eval(), trained.model()
        with torch.no_grad():
            if to == "timm":
                return
            text = model.embed_texts(["a red star", "a blue circle"])
            if to == "open_clip":
                assert same(loaded.encode_image(names["image"]), model.encode_image(pixels))
                assert same(loaded.encode_text(names["text"]), text)
                assert (
                    json.loads((tmp_path / "hub/me/mine/open_clip_config.json").read_text())["model_cfg"]["text_cfg"][
                        "hf_model_name"
                    ]
                    == "me/mine"
                )
            else:
                inputs = names["inputs"]
                assert same(loaded.get_text_features(inputs["input_ids"], inputs["attention_mask"]), text)
                assert same(loaded.get_image_features(inputs["pixel_values"]), model.encode_image(pixels))
