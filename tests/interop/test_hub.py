"""Repositories of models: the real clients against a stand-in hub on loopback."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from huggingface_hub import HfApi, constants

from clipedu import ClipeduError, adopt
from clipedu.interop.hub import from_model_hub, local_alone, settings_of, told
from tests.helpers.fetching import serving
from tests.helpers.hub_server import Fault

pytestmark = pytest.mark.xdist_group("interop")
CLOSED = "http://127.0.0.1:9"  # nothing listens there


@pytest.fixture(scope="module")
def repositories(released, tmp_path_factory):
    """Repositories of both libraries; one that has settings and weights of both, as laion's have."""
    root = tmp_path_factory.mktemp("models")
    for name, *kinds in (("own/clip", "clip"), ("own/open", "vit"), ("own/both", "clip", "vit")):
        for kind in kinds:
            shutil.copytree(released(kind)[0], root / name, dirs_exist_ok=True)
    (root / "own/other").mkdir()
    (root / "own/other/config.json").write_text(json.dumps({"model_type": "bert"}))
    (root / "own/nothing").mkdir()
    (root / "own/nothing/README.md").write_text("soon")
    return root


@pytest.fixture
def hub(repositories, monkeypatch, tmp_path):
    """The hub of these, with an empty cache; yields the requests it has seen."""
    faults = {
        "gated/": Fault(status=403, headers={"X-Error-Code": "GatedRepo"}),
        "private/": Fault(status=401),
    }
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving(
        repositories, monkeypatch, lambda r: next((f for word, f in faults.items() if word in r.path), None)
    ) as seen:
        mine = HfApi(endpoint=constants.ENDPOINT)  # transformers keeps one, with the endpoint of its first use
        monkeypatch.setattr("transformers.utils.hub._hf_api", mine, raising=False)
        yield seen


@pytest.mark.parametrize(("name", "kind"), [("own/clip", "clip"), ("own/open", "vit")])
def test_a_model_of_the_hub_is_the_saved_one(name, kind, released, hub, monkeypatch):
    model, saved = adopt(f"hf:{name}"), adopt(released(kind)[0])
    assert any(name in request for request in hub)
    state = saved.state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert torch.equal(model.embed_texts(["a red star"]), saved.embed_texts(["a red star"]))
    del hub[:]
    for address, offline in ((CLOSED, False), (constants.ENDPOINT, True)):  # now from this machine alone
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        assert adopt(f"hf:{name}").logit_scale == model.logit_scale
        assert constants.HF_HUB_OFFLINE is offline
    assert not hub


def test_a_pretrained_tag(released, hub, monkeypatch, tmp_path):
    """A name of open_clip's own with a tag; the weights were trained with another activation than the name has."""
    import open_clip
    from open_clip import factory, pretrained

    settings = json.loads((released("vit")[0] / "open_clip_config.json").read_text())
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-tiny", settings["model_cfg"])
    place = {"hf_hub": "own/open/", "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "quick_gelu": True}
    monkeypatch.setitem(pretrained._PRETRAINED, "ViT-tiny", {"mine": place})
    model = adopt("open_clip:ViT-tiny")  # the only tag there is
    quick = open_clip.create_model("ViT-tiny", "mine", quick_gelu=True).eval()
    pixels = torch.randint(0, 256, (2, 3, 32, 32))
    mean, std = (torch.tensor(place[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        torch.testing.assert_close(
            model.encode_image(pixels), quick.encode_image((pixels / 255 - mean) / std), rtol=0, atol=2e-6
        )
        assert not torch.allclose(model.encode_image(pixels), adopt(released("vit")[0]).encode_image(pixels), atol=1e-3)
    monkeypatch.setitem(pretrained._PRETRAINED, "ViT-tiny", {"mine": place | {"hf_hub": "own/gone/"}})
    with pytest.raises(ClipeduError, match=r"^own/gone \(weights 'mine' of open_clip:ViT-tiny\) is not on http"):
        adopt("open_clip:ViT-tiny", "mine")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gated/clip", "^gated/clip is gated: accept its terms on http://127.0.0.1:[0-9]+/gated/clip, then log in"),
        ("private/clip", "^private/clip is gated, private or not there: see http://127.0.0.1:[0-9]+/private/clip"),
        ("own/missing", "^own/missing is not on http://127.0.0.1:[0-9]+: check its name"),
        ("a/b/c", "^'a/b/c' is no name of a model on the hub"),
        ("own/other", "^hf:own/other is a model of type 'bert', and no dual encoder"),
        ("own/nothing", "^hf:own/nothing holds no model: it has neither"),
    ],
)
def test_what_is_wrong_with_a_repository(name, message, hub):
    with pytest.raises(ClipeduError, match=message) as caught:
        adopt(f"hf:{name}")
    assert len(str(caught.value).splitlines()) == 1


def test_without_a_network(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", CLOSED)
    with pytest.raises(
        ClipeduError, match=f"^own/clip is not on this machine, and {CLOSED} cannot be reached: load it once"
    ):
        settings_of("own/clip")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ClipeduError, match="^own/clip is not on this machine, and HF_HUB_OFFLINE is set"):
        settings_of("own/clip")


def test_settings_are_fetched_without_the_weights(hub):
    names = {path.name for path in settings_of("own/both").iterdir()}
    assert {"config.json", "open_clip_config.json", "tokenizer.json"} <= names
    assert not any(name.endswith((".safetensors", ".bin")) for name in names)


def test_other_errors_are_one_line_too(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with local_alone() as local:
        assert local
    with (
        pytest.raises(ClipeduError, match=r"^own/clip \(for a test\) cannot be loaded: a first line$"),
        from_model_hub("own/clip", "for a test"),
    ):
        raise ValueError("a first line\nand a second")
    with (
        pytest.raises(ClipeduError, match=r"^own/clip: its weights cannot be read \(KeyError\): save it$"),
        told("own/clip", "its weights", "save it"),
    ):
        raise KeyError
    with pytest.raises(ClipeduError, match="^as it is$"), from_model_hub("own/clip"), told("own/clip", "it", "save it"):
        raise ClipeduError("as it is")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("weight_map"), "the entry 'weight_map' is missing"),
        (
            ValueError("Validation error for field 'size':\n    TypeError: expected int"),
            "field 'size': TypeError: expected int",
        ),
        (ValueError("first\nsecond"), r"\(first\)"),
        (ValueError(""), "ValueError"),
    ],
)
def test_what_an_error_says_is_one_line(error, said):
    with (
        pytest.raises(ClipeduError, match=f"mine: its weights cannot be read .*{said}"),
        told("mine", "its weights", "save it"),
    ):
        raise error
