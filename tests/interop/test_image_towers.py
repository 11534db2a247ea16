"""Image towers: what they compute, and how their tokens are read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clipedu.inference.token_reader import ReadsTokens
from clipedu.interop.image_towers import OpenClipImage, PatchesImage, TransformersImage
from tests.helpers.released import SIZE

pytestmark = pytest.mark.xdist_group("interop")
PIXELS = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def towers(released):
    import copy

    visual = copy.deepcopy(released("vit")[1].visual)
    library = {kind: released(kind)[1].vision_model for kind in ("clip", "siglip", "siglip2", "dual")}
    return {
        "vit": OpenClipImage(visual),
        "siglip2": PatchesImage(library.pop("siglip2"), SIZE),
        **{kind: TransformersImage(model, SIZE) for kind, model in library.items()},
    }


@torch.no_grad()
@pytest.mark.parametrize("kind", ["vit", "clip", "siglip", "siglip2", "dual"])
def test_tokens(kind, towers):
    tower = towers[kind].eval()
    assert isinstance(tower, ReadsTokens) and tower.grid_size() == (4, 4)
    features, states, maps = tower(PIXELS), tower.token_states(PIXELS), tower.attention_weights(PIXELS)
    assert len(states) == len(maps) == len(tower.blocks()) == 2
    assert torch.equal(features, tower(PIXELS))  # nothing is left behind
    hooks = [len(module._forward_hooks) for module in tower.modules()]  # transformers leaves its own
    tower.token_states(PIXELS), tower.attention_weights(PIXELS)
    assert hooks == [len(module._forward_hooks) for module in tower.modules()]
    # a block's output is its input and what its attention and its MLP add: the next block's input
    seen = []
    handle = tower.blocks()[1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    tower(PIXELS)
    handle.remove()
    torch.testing.assert_close(states[0], seen[0])
    for weights in maps:
        assert weights.shape == (3, 4, states[0].shape[1], states[0].shape[1]) and (weights >= 0).all()


@torch.no_grad()
def test_attention_weights_of_open_clip_are_a_softmax(towers):
    tower = towers["vit"].eval()
    block, kept = tower.blocks()[0], []
    handle = block.ln_1.register_forward_hook(lambda module, args, output: kept.append(output))
    (first, _) = tower.attention_weights(PIXELS)
    handle.remove()
    q, k, _ = nn.functional.linear(kept[0], block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, -1)
    q, k = (x.unflatten(-1, (4, 8)).transpose(1, 2) for x in (q, k))
    torch.testing.assert_close(first, (q @ k.mT / 8**0.5).softmax(-1), rtol=1e-5, atol=1e-6)


def test_an_attention_of_another_kind_gives_no_weights(towers, monkeypatch):
    tower = towers["vit"]
    monkeypatch.setattr(tower, "blocks", lambda: [SimpleNamespace(attn=nn.Identity())])
    assert tower.attention_weights(PIXELS) == []


def test_patches_are_rows_of_pixels_with_their_channels(released):
    given = PatchesImage(released("siglip2")[1].vision_model, SIZE).inputs(PIXELS)
    patches = given["pixel_values"]
    assert patches.shape == (3, 16, 192) and given["spatial_shapes"].tolist() == [[4, 4]] * 3
    for place in ((0, 0), (0, 3), (2, 1)):
        row, column = (8 * number for number in place)
        patch = PIXELS[:, :, row : row + 8, column : column + 8].permute(0, 2, 3, 1).flatten(1)
        assert torch.equal(patches[:, 4 * place[0] + place[1]], patch)
    assert next(value for name, value in given.items() if name.endswith("attention_mask")).all()


@torch.no_grad()
def test_a_model_without_pooling_or_patches():
    class Grid(nn.Module):
        config = SimpleNamespace()

        def forward(self, pixel_values, output_attentions=False):
            return SimpleNamespace(last_hidden_state=pixel_values.flatten(2))

    tower = TransformersImage(Grid(), SIZE)
    assert tower(PIXELS).shape == (3, 3, SIZE * SIZE) and tower.grid_size() == (0, 0) and tower.blocks() == []


def test_the_attention_implementation_is_as_before(towers):
    config = towers["clip"].vision_model.config
    before = config._attn_implementation
    towers["clip"].attention_weights(PIXELS)
    assert config._attn_implementation == before != "eager"
