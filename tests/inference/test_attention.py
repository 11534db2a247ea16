"""Attention maps and token norms: timm's numbers, read without leaving a trace; outliers found where there are some."""

import math

import numpy as np
import pytest
import timm
import torch
from timm.models.vision_transformer import ParallelScalingBlock
from torch import nn

import clipedu
from clipedu.inference.attention import attention_maps, name_tokens, reads_attention, token_norms
from clipedu.models.fractal_mask import fractal_mask
from clipedu.models.vit import EXTRA, POSITIONS, build_vit
from clipedu.utils.errors import ClipeduError

NANO = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2, "base": 2, "num_classes": 0}


def small(extra="fractal", pos_embed="sincos2d", **options) -> nn.Module:
    """4 x 4 patches, float64; weights large enough for attention that is far from even."""
    return sharpened(build_vit(**NANO, extra=extra, pos_embed=pos_embed, **options))


def sharpened(model: nn.Module) -> nn.Module:
    noise = torch.Generator().manual_seed(0)
    for weight in model.double().parameters():
        if weight.ndim >= 2 and weight.requires_grad:
            nn.init.normal_(weight, std=0.4, generator=noise)
    return model


def pictures(count=3, size=16):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def seen(model, module, pixels):
    """Input and output of one module in a plain forward pass."""
    kept = []
    handle = module.register_forward_hook(lambda _, given, made: kept.append((given[0], made)))
    with torch.no_grad():
        model.eval()(pixels)
    handle.remove()
    return kept[0]


def hooks_of(model):
    return [hook for module in model.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)]


# attention


@torch.no_grad()
def test_weights_are_the_formula_typed_out():
    model, pixels = small(), pictures(2)
    block = model.blocks[1]
    maps = attention_maps(model, pixels)
    assert maps.shape == (2, 2, 2, 21, 21) and maps.dtype == torch.float64
    h = block.norm1(seen(model, block, pixels)[0])
    allowed = fractal_mask(4, 2)
    for image in range(2):
        for head in range(2):
            rows = slice(16 * head, 16 * head + 16)
            q, k = (
                h[image] @ block.attn.qkv.weight[32 * part :][rows].T + block.attn.qkv.bias[32 * part :][rows]
                for part in (0, 1)
            )
            for query in range(21):
                scores = [
                    math.exp(sum(q[query] * k[key]) / math.sqrt(16)) if allowed[query, key] else 0.0
                    for key in range(21)
                ]
                expected = np.array(scores) / sum(scores)
                np.testing.assert_allclose(maps[1, image, head, query], expected, rtol=1e-9)
    assert maps[1].amax() > 0.5  # far from even, so a wrong head or a transposed map would show


@pytest.mark.parametrize("extra", EXTRA)
@pytest.mark.parametrize("pos_embed", POSITIONS)
def test_weighted_values_are_what_the_fused_attention_gives(extra, pos_embed):
    model, pixels = small(extra, pos_embed), pictures(2)
    maps = attention_maps(model, pixels)
    torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1], dtype=torch.float64))
    for number, block in enumerate(model.blocks):
        assert block.attn.fused_attn
        given, made = seen(model, block.attn, pixels)
        value = block.attn.qkv(given).unflatten(2, (3, 2, 16))[:, :, 2].transpose(1, 2)  # [B, heads, L, d]
        mixed = (maps[number] @ value).transpose(1, 2).flatten(2)
        torch.testing.assert_close(block.attn.proj(mixed), made)


@pytest.mark.parametrize("pos_embed", ["sincos2d", "alibi", "rope"])
def test_forbidden_pairs_have_no_weight_at_all(pos_embed):
    forbidden = ~fractal_mask(4, 2)
    masked, free = (attention_maps(small(extra, pos_embed), pictures()) for extra in ("fractal", "summary"))
    assert forbidden.any() and (masked[..., forbidden] == 0).all() and (masked[..., ~forbidden] > 0).all()
    assert (free > 0).all()


@pytest.mark.parametrize("measure", [attention_maps, token_norms])
def test_a_model_is_left_as_it_was(measure):
    model, pixels = small(), pictures()
    model.train()
    model.blocks[0].eval()
    model.blocks[1].attn.fused_attn = False
    before = [module.training for module in model.modules()]
    with torch.no_grad():
        features = model(pixels)
    measure(model, pixels)
    assert [module.training for module in model.modules()] == before and len(set(before)) == 2
    assert [block.attn.fused_attn for block in model.blocks] == [True, False]
    assert not hooks_of(model)
    with torch.no_grad():
        assert torch.equal(model(pixels), features)


@pytest.mark.parametrize("measure", [attention_maps, token_norms])
def test_a_model_is_left_as_it_was_after_an_error(measure, monkeypatch):
    model = small().train()

    def broken(x):
        assert not model.blocks[1].attn.fused_attn and hooks_of(model)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model.blocks[1].mlp, "forward", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        measure(model, pictures())
    assert all(block.attn.fused_attn for block in model.blocks)
    assert all(module.training for module in model.modules()) and not hooks_of(model)


def test_dropout_plays_no_part():
    model = small("registers", attn_drop_rate=0.5).train()
    maps = attention_maps(model, pictures())
    assert torch.equal(maps, attention_maps(model, pictures())) and (maps > 0).all() and not maps.requires_grad


def test_many_images_go_in_parts(monkeypatch):
    model, pixels = small(), pictures(5)
    whole = attention_maps(model, pixels)
    monkeypatch.setattr("clipedu.inference.attention.IMAGES", 2)
    torch.testing.assert_close(attention_maps(model, pixels), whole)
    assert token_norms(model, pixels).shape == (2, 5, 21)


# norms


@pytest.mark.parametrize("pos_embed", ["alibi", "rope"])
@pytest.mark.parametrize("extra", ["none", "fractal"])
def test_norms_are_those_of_hooks_and_of_timm(extra, pos_embed):
    model, pixels = small(extra, pos_embed), pictures()
    norms = token_norms(model, pixels)
    for number, block in enumerate(model.blocks):
        expected = seen(model, block, pixels)[1].pow(2).sum(-1).sqrt()
        torch.testing.assert_close(norms[number], expected)
    if extra == "fractal":
        how = {"output_fmt": "NLC", "return_prefix_tokens": True, "norm": False, "intermediates_only": True}
        with torch.no_grad():
            layers = [torch.cat([first, patches], 1) for patches, first in model.forward_intermediates(pixels, **how)]
        torch.testing.assert_close(norms, torch.stack(layers).norm(dim=-1))


# names, other models


def test_tokens_have_names_in_the_order_of_the_sequence():
    tokens = name_tokens(small())
    assert tokens.extra == 5 and tokens.grid == (4, 4) and len(tokens.names) == 21
    windows = [f"summary 2x2 ({row}, {column})" for row in (0, 1) for column in (0, 1)]
    assert tokens.names[:7] == ("summary 1x1", *windows, "patch (0, 0)", "patch (0, 1)")
    assert tokens.windows[tokens.index("summary 2x2 (0, 1)")].tolist() == [2, 0, 2]
    assert tokens.index("patch (2, 3)") == 5 + 2 * 4 + 3
    plain = name_tokens(small("none", "rope"))
    assert plain.extra == 0 and plain.names[0] == "patch (0, 0)" and plain.windows is None
    registers = name_tokens(small("registers", "rope", registers=3))
    assert registers.names[:4] == ("register 0", "register 1", "register 2", "patch (0, 0)")
    with pytest.raises(
        ClipeduError,
        match=r"no token 'register 3'. This model has: register 0 to register 2, patch \(0, 0\) to patch \(3, 3\)$",
    ):
        registers.index("register 3")


def test_a_patch_is_named_by_its_place_in_the_picture():
    """A change of the pixels of one patch changes that token alone on the way into the first block."""
    model, pixels = small(), pictures(1)
    changed = pixels.clone()
    changed[:, :, 8:12, 4:8] += 1  # row 2, column 1
    moved = (seen(model, model.blocks[0], changed)[0] != seen(model, model.blocks[0], pixels)[0]).any(-1)[0]
    assert [name for name, move in zip(name_tokens(model).names, moved, strict=True) if move] == ["patch (2, 1)"]


@pytest.mark.parametrize(
    ("name", "options", "first"),
    [
        ("vit_tiny_patch16_224", {"reg_tokens": 2}, ("class", "register 0", "register 1", "patch (0, 0)")),
        ("deit_tiny_distilled_patch16_224", {}, ("class", "distillation", "patch (0, 0)")),
        ("eva02_tiny_patch14_224", {"patch_size": 16}, ("class", "patch (0, 0)")),
        ("vit_small_patch16_rope_224", {"num_reg_tokens": 1}, ("class", "register 0", "patch (0, 0)")),
    ],
)
def test_timms_own_models(name, options, first):
    model = timm.create_model(name, img_size=32, num_classes=0, depth=2, **options).double()
    tokens, pixels = name_tokens(model), pictures(2, 32)
    assert tokens.names[: len(first)] == first and tokens.grid == (2, 2)
    maps = attention_maps(model, pixels)
    assert maps.shape[-1] == len(tokens.names) == tokens.extra + 4
    torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1], dtype=torch.float64))
    assert token_norms(model, pixels).shape == (2, 2, len(tokens.names))


def test_a_dual_encoder_takes_raw_pixels():
    experiment = clipedu.Experiment.preset("tiny", image_encoder="fractal_vit_nano_patch4_32", image_frozen=True)
    model = clipedu.build_model(experiment, vocab_size=50)
    raw = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    normalised = (raw.float() / 255 - 0.5) / 0.5
    for measure in (attention_maps, token_norms):
        torch.testing.assert_close(measure(model, raw), measure(model.image_encoder, normalised))
    assert model.training and not model.image_encoder.training
    assert name_tokens(model).names == name_tokens(model.image_encoder).names


def test_errors_name_what_was_given():
    resnet = timm.create_model("test_resnet", num_classes=0)
    for measure in (lambda model: attention_maps(model, pictures()), name_tokens):
        with pytest.raises(ClipeduError, match="a ResNet has no attention maps .* Works with timm's VisionTransformer"):
            measure(resnet)
    for unusual in ({"block_fn": ParallelScalingBlock}, {"attn_layer": "diff"}):
        model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=0, **unusual)
        with pytest.raises(ClipeduError, match="a VisionTransformer has no .* and their usual blocks"):
            attention_maps(model, pictures(1, 32))
    for shape in ((1, 3, 32, 32), (3, 16, 16), (0, 3, 16, 16)):
        with pytest.raises(ClipeduError, match=r"pixels \[.*\] do not fit this model, which takes \[B, 3, 16, 16\]"):
            token_norms(small(), torch.zeros(shape, dtype=torch.float64))
    with pytest.raises(
        ClipeduError, match=r"normalised floats, not torch.uint8 pixels; a DualEncoder \(run.model\(\)\)"
    ):
        token_norms(small(), torch.zeros(1, 3, 16, 16, dtype=torch.uint8))


# artifacts


def test_which_models_can_be_read():
    import timm

    assert reads_attention(timm.create_model("test_vit", num_classes=0))
    assert not reads_attention(timm.create_model("test_resnet", num_classes=0))


def test_pictures_of_another_size_are_not_read():
    """dynamic_img_size lets a model take them; a run with such a model is scored and reported without maps."""
    from clipedu.models.image_encoders import build_image_encoder

    model = build_image_encoder("vit_nano_patch4_32", dynamic_img_size=True)
    assert reads_attention(model) and reads_attention(model, 32) and not reads_attention(model, 64)
