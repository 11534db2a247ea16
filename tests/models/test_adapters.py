"""LoRA: merged = unmerged, the weights under it stay, and what cannot be adapted is said."""

import copy
import logging
import sys

import pytest
import torch

from clipedu import ClipeduError, adopt
from clipedu.models.adapters import add_adapters, has_adapters, merge_adapters
from clipedu.models.locking import freeze, lock
from tests.helpers.released import save_open_clip, save_transformers

pytestmark = pytest.mark.xdist_group("interop")
TEXTS = ["a red star", "a large blue ring"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """An open_clip model with attention of torch, one of transformers, and a ResNet that reads weights of layers."""
    root, models = tmp_path_factory.mktemp("adapters"), {}
    for kind, save in (("vit", save_open_clip), ("resnet", save_open_clip), ("siglip", save_transformers)):
        save(root / kind, kind)
        models[kind] = adopt(root / kind)
    return models


def vectors(model):
    pixels = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    with torch.no_grad():
        both = model.encode_image(pixels), model.embed_texts(TEXTS)
    return [torch.nn.functional.normalize(one) for one in both]


@pytest.mark.parametrize("kind", ["vit", "resnet", "siglip"])
def test_merged_is_unmerged(plain, kind):
    before, model = plain[kind], copy.deepcopy(plain[kind])
    add_adapters(model, 2, image_size=32, seed=1)
    for mine, theirs in zip(vectors(model), vectors(before), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all(".lora_" in name or "_projection" in name for name in names)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    order = [name for name, _ in model.named_parameters()]
    for _ in range(3):
        optimizer.zero_grad()
        image = model.encode_image(torch.randint(0, 256, (2, 3, 32, 32)))
        text = model.encode_text(torch.ones(2, 5, dtype=torch.long), torch.ones(2, 5, dtype=torch.bool))
        (image.square().mean() + text.square().mean()).backward()
        optimizer.step()
    assert all(p.grad is not None for name, p in model.named_parameters() if ".lora_" in name)  # none in vain
    assert [name for name, _ in model.named_parameters()] == order  # as what averages weights takes for granted
    kept = {name.replace(".base_layer", ""): value for name, value in model.state_dict().items()}
    for name, value in before.state_dict().items():
        if "_projection" not in name and "num_batches" not in name and "running" not in name:
            assert torch.equal(kept[name], value), name
    unmerged = vectors(model.eval())
    merge_adapters(model)
    assert not has_adapters(model) and set(model.state_dict()) == set(before.state_dict())
    for mine, theirs in zip(vectors(model), unmerged, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    moved = [(a - b).abs().max() for a, b in zip(vectors(model), vectors(before), strict=True)]
    assert max(moved) > 1e-3


def test_frozen_and_locked_parts_get_no_adapters(plain):
    model = copy.deepcopy(plain["siglip"])
    freeze(model, ["text"])
    lock(model, ["image_encoder.vision_model.encoder.layers.0", "text_projection"])
    add_adapters(model, 2, {"lora_alpha": 4}, image_size=32)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert names and all(name.startswith("image_encoder.") for name in names)
    assert not any(".layers.0." in name for name in names)


def test_layers_whose_weights_are_read_without_a_call_are_adapted(plain):
    """The output layers of torch's attention, and the pooling of a ResNet of CLIP."""
    model = copy.deepcopy(plain["vit"])
    add_adapters(model, 2, image_size=32)
    names = [name for name, _ in model.named_parameters() if ".lora_A" in name]
    assert sum(".out_proj.lora_A" in name for name in names) == 4 and len(names) == 16
    model = copy.deepcopy(plain["resnet"])
    add_adapters(model, 2, image_size=32)
    assert sum("attnpool" in name and ".lora_A" in name for name, _ in model.named_parameters()) == 4


@pytest.mark.parametrize(("kind", "count", "named"), [("vit", "4 of 20", "conv1"), ("resnet", "22 of 34", "conv1")])
def test_what_has_no_adapter_is_named(plain, caplog, kind, count, named):
    with caplog.at_level(logging.INFO):
        add_adapters(copy.deepcopy(plain[kind]), 2, image_size=32)
    assert f"leaves {count} matrices of the encoders without an adapter" in caplog.text and named in caplog.text


def test_a_weight_that_is_locked_by_name_has_no_adapter(plain):
    model, name = copy.deepcopy(plain["vit"]), "image_encoder.visual.transformer.resblocks.0.mlp.c_fc"
    lock(model, [f"{name}.weight"])
    add_adapters(model, 2, image_size=32)
    assert isinstance(model.get_submodule(name), torch.nn.Linear)


def test_a_rank_above_all_sides_is_refused(plain):
    for rank in (33, 100_000):
        with pytest.raises(ClipeduError, match=f"lora_rank={rank} is above .* at most 32: take 32 or less"):
            add_adapters(copy.deepcopy(plain["siglip"]), rank, image_size=32)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"alpha": 3}, "lora_rank=2, alpha=3 cannot be used"),
        ({"target_modules": ["nothing"]}, "cannot be used: .*target"),
        ({"lora_dropout": 0.1}, "lora_dropout"),
        ({"target_modules": ["out_proj"], "use_dora": True}, "read without calling"),
        ({"r": 3}, "lora_options has no 'r'.*lora_rank"),
    ],
)
def test_options_that_cannot_be_used(plain, options, said):
    with pytest.raises(ClipeduError, match=said):
        add_adapters(copy.deepcopy(plain["vit"]), 2, options, image_size=32)


def test_without_peft_the_extra_is_named(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ClipeduError, match=r"pip install 'clipedu\[finetune\]'"):
        add_adapters(plain["vit"], 2, image_size=32)


def test_both_encoders_frozen_leave_nothing_to_adapt(plain):
    model = copy.deepcopy(plain["vit"])
    freeze(model, ["image", "text"])
    with pytest.raises(ClipeduError, match="both encoders are frozen"):
        add_adapters(model, 2, image_size=32)
