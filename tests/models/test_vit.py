"""Vision transformers with extra tokens: the mask respected, first values, costs as published, invariances, low precision."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest
import timm
import torch
from packaging.version import Version
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from clipedu.config.experiment import Experiment
from clipedu.models.fractal_mask import fractal_mask, summary_sides
from clipedu.models.image_encoders import build_image_encoder, feature_width
from clipedu.models.position_codes import sincos2d
from clipedu.models.registry import ENCODERS, VISION_TRANSFORMERS
from clipedu.models.vit import EXTRA, POSITIONS, SUMMARY, SUMMARY_OF, build_vit
from clipedu.utils.errors import ClipeduError

TINY = {"img_size": 16, "patch_size": 4, "embed_dim": 48, "depth": 4, "num_heads": 4, "base": 2, "num_classes": 10}
every_arm = pytest.mark.parametrize("extra, pos_embed", list(itertools.product(EXTRA, POSITIONS)))
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


def lively(seed: int = 0, **changes) -> torch.nn.Module:
    """A small model in float64 whose weights, norms apart, are N(0, 0.2): at its first weights a mask moves logits by 1e-4."""
    model = build_vit(**{**TINY, **changes}).double().eval()
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name and parameter.requires_grad:
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=noise, dtype=torch.float64))
    return model


def pictures(count: int = 4, size: int = 16) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def one_block(model, x: torch.Tensor, block: int = 0) -> torch.Tensor:
    """Tokens [B, L, D] through one block, as the model's own forward calls it."""
    rope = {} if getattr(model, "rope", None) is None else {"rope": model.rope.get_embed()}
    return model.blocks[block](x, attn_mask=model.attn_mask, **rope)


def moved_outputs(through, tokens: int, dim: int, dtype=torch.float64, device="cpu") -> torch.Tensor:
    """bool [L, L]: output i changes, at all, when input j does."""
    noise = torch.Generator().manual_seed(2)
    x = torch.randn(1, tokens, dim, generator=noise, dtype=torch.float64).to(device, dtype)
    changed = x.repeat(tokens, 1, 1)
    changed[range(tokens), range(tokens)] += torch.randn(tokens, dim, generator=noise, dtype=torch.float64).to(
        device, dtype
    )
    with torch.no_grad():
        both = through(torch.cat([x, changed]))
    return (both[1:] != both[:1]).any(2).T.cpu()


# what the mask does


@pytest.mark.parametrize("pos_embed", POSITIONS)
def test_one_block_depends_on_what_the_mask_allows_and_on_nothing_else(pos_embed):
    model = lively(extra="fractal", pos_embed=pos_embed)
    moved = moved_outputs(lambda x: one_block(model, x), 21, 48)
    assert torch.equal(moved, fractal_mask(4, 2))
    two = moved_outputs(lambda x: one_block(model, one_block(model, x), 1), 21, 48)
    assert two.all()


@pytest.mark.parametrize("extra", ["registers", "summary"])
def test_without_the_mask_every_token_sees_every_other(extra):
    model = lively(extra=extra, pos_embed="none")
    assert moved_outputs(lambda x: one_block(model, x), 21, 48).all()


@every_arm
def test_forward_passes_the_mask_to_every_block(extra, pos_embed):
    model = lively(extra=extra, pos_embed=pos_embed)
    seen = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, __, how: seen.append(how.get("attn_mask")), with_kwargs=True)
    model(pictures(1))
    assert len(seen) == 4 and all(mask is model.attn_mask for mask in seen)
    seen.clear()
    model.forward_intermediates(pictures(1))
    assert len(seen) == 4 and all(mask is model.attn_mask for mask in seen)


def test_a_mask_that_is_passed_goes_over_the_own_one():
    model = lively(extra="fractal", pos_embed="none")
    everything = torch.ones(21, 21, dtype=torch.bool)
    summary = lively(extra="summary", pos_embed="none")
    summary.load_state_dict(model.state_dict())
    x = pictures()
    assert torch.allclose(model(x, attn_mask=everything), summary(x), atol=1e-12)
    assert not torch.allclose(model(x), summary(x), atol=1e-3)


def test_mask_is_in_no_checkpoint_and_in_every_copy():
    masked, unmasked = lively(extra="fractal", pos_embed="none"), lively(extra="summary", pos_embed="none")
    assert masked.state_dict().keys() == unmasked.state_dict().keys()
    assert "attn_mask" in dict(masked.named_buffers()) and unmasked.attn_mask is None
    assert masked.to("meta").attn_mask.device.type == "meta"


@pytest.mark.parametrize("pos_embed", ["none", "alibi"])
@pytest.mark.parametrize("fused", [True, False])
def test_bool_and_added_mask_fused_or_not(pos_embed, fused):
    model = lively(extra="fractal", pos_embed=pos_embed)
    expected = model(pictures())
    bias = model.attn_mask
    if bias.dtype == torch.bool:
        bias = torch.zeros(21, 21, dtype=torch.float64).masked_fill(~bias, -torch.inf)
    for block in model.blocks:
        block.attn.fused_attn = fused
    assert torch.allclose(model(pictures(), attn_mask=bias), expected, atol=1e-12)
    assert torch.allclose(model(pictures()), expected, atol=1e-12)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("pos_embed", POSITIONS)
def test_mask_holds_under_bf16_autocast(device, pos_embed):
    """What is forbidden stays without any influence, to the last bit; what is computed stays near float32."""
    model = lively(extra="fractal", pos_embed=pos_embed).float().to(device)

    def block(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16):
            return one_block(model, x)

    moved = moved_outputs(block, 21, 48, torch.float32, device)
    assert not (moved & ~fractal_mask(4, 2)).any()
    assert torch.equal(moved, fractal_mask(4, 2))
    x = pictures().float().to(device)
    with torch.autocast(device, torch.bfloat16), torch.no_grad():
        low = model(x).float()
    high = model(x)
    assert low.isfinite().all() and (low - high).norm() < 0.05 * high.norm()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("grid, base", [(4, 2), (16, 4)])
def test_flex_attention_by_the_rule_agrees_with_a_dense_mask(device, dtype, tolerance, grid, base):
    """The rule as a function of two token numbers, in the kernel made for such rules, against SDPA with the whole matrix."""
    mask = fractal_mask(grid, base).to(device)
    count, sides = len(mask), [*summary_sides(grid, base), grid]
    size = torch.cat([torch.full((side * side,), grid // side) for side in sides]).to(device)
    place = torch.cat([torch.arange(side * side) for side in sides]).to(device)
    top, left = place // (grid // size) * size, place % (grid // size) * size

    def rule(batch, head, q, k):
        inside = (top[q] // size[k] == top[k] // size[k]) & (left[q] // size[k] == left[k] // size[k])
        around = (top[q] // size[q] == top[k] // size[q]) & (left[q] // size[q] == left[k] // size[q])
        nested = torch.where(size[k] >= size[q], inside, around)
        return nested | (size[q] == size[k])

    noise = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, count, 16, generator=noise).to(device, dtype) for _ in range(3))
    blocks = create_block_mask(rule, None, None, count, count, device=device)
    flexible = flex_attention(q, k, v, block_mask=blocks)
    dense = scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert (flexible - dense).abs().max() < tolerance


def test_compiles_without_a_graph_break():
    model = lively(extra="fractal", pos_embed="alibi")
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(pictures()), model(pictures()))


# tokens and pooling


@every_arm
def test_tokens_and_features(extra, pos_embed):
    model = lively(extra=extra, pos_embed=pos_embed)
    tokens = {"none": 0, "wide": 0}.get(extra, 5)
    out = model.forward_features(pictures())
    assert out.shape == (4, tokens + 16, 48) and model.num_prefix_tokens == tokens
    assert model.grid == 4 and model.sides == ([1, 2] if extra in ("summary", "fractal") else [])
    feature = model.forward_head(out, pre_logits=True)
    assert torch.allclose(feature, out[:, tokens:].mean(1), atol=1e-12)  # patches alone
    assert torch.allclose(model(pictures()), model.head(feature), atol=1e-12)


def test_last_norm_comes_before_the_mean():
    model = lively(extra="registers", pos_embed="none")
    patches = model.forward_features(pictures())[:, 5:]
    assert torch.allclose(patches.mean(2), torch.zeros(4, 16, dtype=torch.float64), atol=1e-6)


def test_registers_stay_where_nothing_is_added_to_patches():
    """timm before 1.0.26 drops them silently with pos_embed="none"."""
    assert Version(timm.__version__) >= Version("1.0.26")
    pinned = re.search(r'"timm>=([\d.]+)"', (Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert Version(pinned[1]) >= Version("1.0.26")
    stock = timm.create_model(
        "vit_tiny_patch16_224", pos_embed="none", class_token=False, reg_tokens=4, global_pool="avg", depth=1
    )
    assert stock.forward_features(torch.zeros(1, 3, 224, 224)).shape[1] == 4 + 196
    model = lively(extra="registers", pos_embed="none", registers=3)
    before = model(pictures())
    with torch.no_grad():
        model.reg_token[:, :, ::2] += 1
    assert model.forward_features(pictures()).shape[1] == 3 + 16
    assert (model(pictures()) - before).abs().min() > 1e-6


@pytest.mark.parametrize("pos_embed", POSITIONS)
@pytest.mark.parametrize("extra", ["summary", "fractal"])
@pytest.mark.parametrize("summary", [None, *SUMMARY])
def test_what_summary_tokens_hold(extra, pos_embed, summary):
    token = build_vit(**TINY, extra=extra, pos_embed=pos_embed, summary=summary).reg_token
    content = summary or SUMMARY_OF[pos_embed]
    assert token.requires_grad == (content == "learned")
    if content == "zero":
        assert not token.any()
    elif content == "sincos2d":
        assert torch.equal(token[0], torch.cat([sincos2d(1, 48), sincos2d(2, 48)]).float())
    else:
        assert len(token[0].unique(dim=0)) == 5


def test_first_values():
    torch.manual_seed(0)
    model = build_vit(**{**TINY, "embed_dim": 384}, extra="registers", pos_embed="learned", registers=100)
    assert model.reg_token.std().item() == pytest.approx(384**-0.5, rel=0.02)
    assert model.pos_embed.std().item() == pytest.approx(384**-0.5, rel=0.05)
    bound = math.sqrt(3 / 384)
    for block in model.blocks:
        assert 0.99 * bound < block.attn.qkv.weight.abs().max() <= bound
    assert not model.head.weight.any()
    fixed = build_vit(**TINY, pos_embed="sincos2d")
    assert torch.equal(fixed.pos_embed[0], sincos2d(4, 48).float()) and not fixed.pos_embed.requires_grad


def test_arms_of_one_seed_begin_with_the_same_weights():
    made = {}
    for extra, pos_embed in itertools.product(("none", "registers", "summary", "fractal"), POSITIONS):
        torch.manual_seed(7)
        made[extra, pos_embed] = build_vit(**TINY, extra=extra, pos_embed=pos_embed)
    first = dict(made["none", "none"].named_parameters())
    for model in made.values():
        for name, parameter in model.named_parameters():
            if name in first:
                assert torch.equal(parameter, first[name]), name
    torch.manual_seed(8)
    assert not torch.equal(build_vit(**TINY).patch_embed.proj.weight, first["patch_embed.proj.weight"])


def test_building_draws_one_number_of_the_global_generator():
    torch.manual_seed(7)
    build_vit(**TINY, extra="registers")
    after = torch.rand(1)
    torch.manual_seed(7)
    build_vit(**TINY, extra="registers")
    assert torch.equal(torch.rand(1), after)


# costs


def gmacs(model) -> float:
    for block in model.blocks:
        block.attn.fused_attn = False
    size = model.patch_embed.img_size[0]
    with FlopCounterMode(display=False) as counter:
        model.to("meta")(torch.zeros(1, 3, size, size, device="meta"))
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize(
    "size, tokens, cost, parameters",
    [
        (256, 0, 6.116, 0),
        (256, 17, 6.560, 6_528),
        (256, 85, 8.388, 32_640),
        (224, 0, 4.574, 0),
        (224, 1, 4.599, 384),
        (224, 4, 4.674, 1_536),
        (224, 9, 4.798, 3_456),
        (224, 17, 4.999, 6_528),
        (224, 59, 6.072, 22_656),
    ],
)
def test_costs_of_vit_small_as_published(size, tokens, cost, parameters):
    how = {"extra": "registers", "registers": tokens} if tokens else {}
    model = timm.create_model("vit_small_patch16_256", img_size=size, pos_embed="none", num_classes=1000, **how)
    assert sum(p.numel() for p in model.parameters()) == 21_974_632 + parameters
    assert gmacs(model) == pytest.approx(cost, abs=6e-4)


@pytest.mark.parametrize("base, tokens, cost", [(4, 17, 6.560), (2, 85, 8.388), (16, 1, None)])
def test_summary_tokens_and_mask_cost_what_registers_do(base, tokens, cost):
    made = [
        timm.create_model("fractal_vit_small_patch16_256", base=base, extra=extra, pos_embed="none", num_classes=1000)
        for extra in ("registers", "summary", "fractal")
    ]
    assert {model.num_prefix_tokens for model in made} == {tokens}
    costs = {gmacs(model) for model in made}
    assert len(costs) == 1 and (cost is None or costs.pop() == pytest.approx(cost, abs=6e-4))


def test_cost_by_the_formula():
    """12 N d^2 + 2 N^2 d a block, and the patch embedding."""
    model = timm.create_model("vit_nano_patch4_32_reg21", num_classes=0)
    n, d, depth = 64 + 21, 64, 4
    assert gmacs(model) * 1e9 == depth * (12 * n * d**2 + 2 * n**2 * d) + 64 * 3 * 16 * d


@pytest.mark.parametrize("name", ["vit_nano_patch4_32", "vit_tiny_patch4_64", "vit_small_patch16_256"])
def test_wide_costs_what_summary_tokens_would(name):
    wide = gmacs(timm.create_model(name, extra="wide", num_classes=0))
    assert wide == pytest.approx(gmacs(timm.create_model(name, extra="fractal", num_classes=0)), rel=2e-3)
    assert wide > 1.05 * gmacs(timm.create_model(name, num_classes=0))


# permutations of the patches


def tiles(permutation: list[int], x: torch.Tensor) -> torch.Tensor:
    """The picture whose tile p, row by row, is tile permutation[p] of x: [B, 3, 16, 16], tiles of 4 x 4."""
    cut = x.unflatten(3, (4, 4)).unflatten(2, (4, 4)).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # [B, 16, 3, 4, 4]
    moved = cut[:, permutation].unflatten(1, (4, 4))
    return moved.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


PLACES = [(r, c) for r in range(4) for c in range(4)]


def layout(move) -> list[int]:
    return [4 * r + c for r, c in (move(r, c) for r, c in PLACES)]


def shuffled(seed: int) -> list[int]:
    return torch.randperm(16, generator=torch.Generator().manual_seed(seed)).tolist()


LAYOUTS = {
    "random": shuffled(3),
    "inside windows": layout(lambda r, c: (r ^ 1 if c < 2 else r, c ^ 1 if r > 1 else c)),
    "swap windows": layout(lambda r, c: ((r + 2) % 4, (c + 2) % 4) if (r < 2) == (c < 2) else (r, c)),
    "mirror": layout(lambda r, c: (r, 3 - c)),
    "rotate": layout(lambda r, c: (c, 3 - r)),
    "roll 2": layout(lambda r, c: (r, (c + 2) % 4)),
    "roll 1": layout(lambda r, c: (r, (c + 1) % 4)),
    "swap two": layout(lambda r, c: (r, {1: 2, 2: 1}.get(c, c)) if r == 0 else (r, c)),
}
KEPT = {  # by the arms; all others are changed
    "patches": set(LAYOUTS),
    "registers": set(LAYOUTS),
    "fractal, zero": {"inside windows", "swap windows", "mirror", "rotate", "roll 2"},
    "fractal, learned": {"inside windows"},
    "learned positions": set(),
    "alibi": {"mirror", "rotate"},
}
ARMS = {
    "patches": {"pos_embed": "none"},
    "registers": {"pos_embed": "none", "extra": "registers"},
    "fractal, zero": {"pos_embed": "none", "extra": "fractal"},
    "fractal, learned": {"pos_embed": "none", "extra": "fractal", "summary": "learned"},
    "learned positions": {"pos_embed": "learned"},
    "alibi": {"pos_embed": "alibi", "extra": "fractal"},
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("arm", ARMS)
def test_layouts_that_a_model_can_not_tell_apart(arm, seed):
    model = lively(seed, **ARMS[arm])
    x = pictures()
    logits = model(x)
    assert logits.std(0).mean() > 0.05  # the pictures differ to it
    for name, permutation in LAYOUTS.items():
        change = (model(tiles(permutation, x)) - logits).abs().max().item()
        assert change < 1e-12 if name in KEPT[arm] else change > 1e-4, (name, change)


def test_no_random_layout_of_many_leaves_the_masked_model_as_it_was():
    model = lively(pos_embed="none", extra="fractal")
    x = pictures(2)
    logits = model(x)
    changes = [(model(tiles(shuffled(seed), x)) - logits).abs().max().item() for seed in range(50)]
    assert min(changes) > 1e-3


def test_permuting_patches_and_mask_together_changes_nothing():
    model = lively(pos_embed="none", extra="fractal")
    permutation = LAYOUTS["random"]
    order = torch.tensor([*range(5), *(5 + p for p in permutation)])
    moved = model(tiles(permutation, pictures()), attn_mask=model.attn_mask[order][:, order])
    assert torch.allclose(moved, model(pictures()), atol=1e-12)


def test_zero_summary_tokens_without_a_mask_are_copies_of_one_register():
    """Why NoPE + summary tokens + no mask is a degenerate arm: they stay equal in every block."""
    model = lively(pos_embed="none", extra="summary")
    for tokens in model.forward_intermediates(
        pictures(), output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
    ):
        prefix = tokens[1]
        assert torch.allclose(prefix, prefix[:, :1].expand_as(prefix), atol=1e-12)


# names and refusals


def test_every_name_builds_and_is_timms_too():
    names = VISION_TRANSFORMERS
    assert {"fractal_vit_small_patch16_256", "vit_small_patch16_256_reg17", "fractal_vit_nano_patch4_32"} <= set(names)
    for name in names:
        encoder = build_image_encoder(name)
        assert type(encoder) is type(timm.create_model(name, num_classes=0))
        size = ENCODERS[name].defaults["img_size"]
        assert feature_width(encoder, size) == encoder.embed_dim
        extra = 0 if name.startswith("vit") and "reg" not in name else 21 if "nano" in name else 17
        assert encoder.num_prefix_tokens == extra
        assert encoder.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)


def test_a_vit_is_built_for_the_size_that_the_experiment_asks_for():
    encoder = build_image_encoder("fractal_vit_nano_patch4_32", image_size=64)
    assert encoder.grid == 16 and encoder.num_prefix_tokens == 85
    assert build_image_encoder("test_vit", image_size=64).patch_embed.img_size == (64, 64)
    assert build_image_encoder("vit_nano_patch4_32", image_size=64, img_size=16).grid == 4  # an option goes over it


def test_the_image_size_is_a_setting_of_the_experiment_and_no_option():
    message = told(Experiment, image_options={"image_size": 64})
    assert "'image_size' cannot be among them, the experiment sets it itself" in message


def told(build, *names, **options) -> str:
    with pytest.raises(ClipeduError) as caught:
        build(*names, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_224_over_16_is_told_which_sizes_can():
    message = told(build_image_encoder, "fractal_vit_small_patch16_256", image_size=224)
    assert message.startswith(
        "img_size=224 with patch_size=16: a grid of 14 x 14 patches cannot carry windows of base 4"
    )
    assert "take img_size 64, 256, 1024" in message and "patch_size 56, 14" in message
    for size, patch in ((64, 16), (256, 16), (1024, 16), (224, 56), (224, 14)):
        assert build_vit(
            img_size=size,
            patch_size=patch,
            embed_dim=8,
            depth=1,
            num_heads=1,
            base=4,
            extra="fractal",
            pos_embed="none",
        )


@pytest.mark.parametrize(
    "options, words",
    [
        ({"extra": "register"}, "unknown extra 'register'. Did you mean 'registers'? Allowed: none, wide, registers"),
        ({"pos_embed": "learn"}, "unknown pos_embed 'learn'. Did you mean 'learned'? Allowed: none, sincos2d, learned"),
        ({"extra": "fractal", "summary": "random"}, "unknown summary 'random'. Allowed: zero, sincos2d, learned"),
        ({"extra": "registers", "summary": "zero"}, "summary='zero' needs summary tokens"),
        ({"extra": "fractal", "registers": 3}, "registers=3 needs extra='registers', not 'fractal'"),
        ({"extra": "registers", "registers": 0}, "registers=0 needs extra='registers', not 'registers', and at least 1"),
        ({"extra": "fractal", "base": None}, "windows need a base. Bases that fit a grid of 4 x 4: 2, 4"),
        ({"extra": "fractal", "base": 3}, "img_size=16 with patch_size=4: a grid of 4 x 4 patches cannot carry windows of base 3"),
        ({"extra": "fractal", "base": 1}, "base=1: a window must be at least 2 x 2"),
        ({"extra": "fractal", "patch_drop_rate": 0.5}, "patch_drop_rate=0.5 cannot be used here: the fractal mask is made for"),
        ({"pos_embed": "alibi", "patch_drop_rate": 0.5}, "patch_drop_rate=0.5 cannot be used here: ALiBi's bias is made for"),
        ({"extra": "fractal", "dynamic_img_size": True}, "dynamic_img_size=True cannot be used here: the fractal mask is"),
        ({"extra": "summary", "dynamic_img_size": True}, "dynamic_img_size=True cannot be used here: summary tokens are"),
        ({"patch_drop_rate": 1}, "patch_drop_rate must be a number >= 0 and < 1, got 1"),
        ({"drop_path_rate": 2}, "drop_path_rate must be a number >= 0 and < 1, got 2"),
        ({"attn_drop_rate": math.nan}, "attn_drop_rate must be a number >= 0 and < 1, got nan"),
        ({"pos_embed": "none", "pos_drop_rate": 0.1}, "pos_drop_rate=0.1 has no effect with pos_embed='none'"),
        ({"global_pool": "token"}, "global_pool='token' cannot be given to this image encoder: the mean over patches"),
        ({"reg_tokens": 4}, "reg_tokens=4 cannot be given to this image encoder: extra tokens are chosen by extra"),
        ({"weight_init": "moco"}, "weight_init='moco' cannot be given to this image encoder: initial weights are drawn"),
        ({"qkv_fused": False}, "unknown option of a vision transformer of this kind: 'qkv_fused'. Did you mean 'qkv_bias'?"),
        ({"pos_embed": "rope", "act_layer": "relu"}, "unknown option of a vision transformer with pos_embed='rope': 'act_layer'."),
    ],
)  # fmt: skip
def test_choices_that_can_not_work(options, words):
    assert told(build_vit, **{**TINY, **options}).startswith(words)


UNMASKED = [
    (extra, pos_embed)
    for extra, pos_embed in itertools.product(EXTRA, POSITIONS)
    if extra != "fractal" and pos_embed != "alibi"
]


@pytest.mark.parametrize("extra, pos_embed", UNMASKED)
def test_dropped_patches_are_as_if_nobody_could_see_them(extra, pos_embed):
    """In training a model computes with the patches that are left what it would with a mask over the others."""
    model = lively(extra=extra, pos_embed=pos_embed, patch_drop_rate=0.5).train()
    extras, x = model.num_prefix_tokens, pictures()
    torch.manual_seed(3)
    dropped = model.forward_features(x)
    assert dropped.shape == (4, extras + 8, 48)
    torch.manual_seed(3)
    left = torch.argsort(torch.randn(4, 16), dim=-1)[:, :8] + extras  # as timm draws them
    seen = (
        torch.zeros(4, extras + 16, dtype=torch.bool).index_fill(1, torch.arange(extras), True).scatter(1, left, True)
    )
    model.eval()
    masked = model.forward_features(x, attn_mask=seen[:, None, None].expand(-1, 1, extras + 16, -1))
    expected = masked.gather(1, left[..., None].expand(-1, -1, 48))
    assert torch.allclose(dropped[:, extras:], expected, atol=1e-9)
    assert torch.allclose(dropped[:, :extras], masked[:, :extras], atol=1e-9)


@pytest.mark.parametrize("extra, pos_embed", UNMASKED)
def test_dropping_patches_leaves_evaluation_and_attention_as_they_are(extra, pos_embed):
    from clipedu.inference.attention import attention_maps, name_tokens, token_norms

    with_drop, without = (lively(extra=extra, pos_embed=pos_embed, patch_drop_rate=rate) for rate in (0.5, 0.0))
    x = pictures()
    assert torch.equal(with_drop(x), without(x))
    with_drop.train()
    maps = attention_maps(with_drop, x)
    assert with_drop.training and torch.equal(maps, attention_maps(without, x))
    assert token_norms(with_drop, x).shape[-1] == len(name_tokens(with_drop).names) == maps.shape[-1]


@pytest.mark.parametrize(
    "options",
    [
        {"drop_path_rate": 0.1},
        {"qk_norm": True},
        {"init_values": 1e-4},
        {"global_pool": "avg", "class_token": False},  # what they are anyway
        {"dynamic_img_size": True},
        {"pos_embed": "rope", "norm_layer": "rmsnorm"},
        {"pos_embed": "rope", "qkv_fused": False, "num_kv_heads": 2},
        {"norm_layer": "rmsnorm", "act_layer": "relu", "proj_bias": False, "final_norm": False},
    ],
)
def test_timms_own_options_are_taken(options):
    model = build_vit(**{**TINY, **options}).train()
    assert model(pictures().float()).shape == (4, 10)


def test_dropping_patches_changes_training():
    torch.manual_seed(0)
    model = build_image_encoder("vit_nano_patch4_32", patch_drop_rate=0.5).train()
    x = torch.randn(2, 3, 32, 32)
    assert not torch.equal(model(x), model(x)) and model.forward_features(x).shape[1] == 32


def test_pretrained_weights_are_not_promised():
    message = told(build_image_encoder, "fractal_vit_nano_patch4_32", "pretrained")
    assert message.startswith("image encoder 'fractal_vit_nano_patch4_32' has no pretrained weights")


def test_what_would_be_ignored_is_refused():
    model = build_vit(**TINY, extra="fractal")
    assert "cannot be changed" in told(model.set_input_size, 32)
    assert "does not go with an attention mask" in told(model.set_grad_checkpointing)
    build_vit(**TINY, extra="registers").set_grad_checkpointing()  # no mask: timm's own


def test_checkpointing_goes_with_rope_and_changes_nothing():
    model, x = lively(extra="fractal", pos_embed="rope").train(), pictures()
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(x).square().sum().backward()
        gradients.append(model.reg_token.grad.clone())
    assert torch.allclose(*gradients, atol=1e-10) and gradients[0].any()


def test_tokens_and_codes_are_not_decayed():
    from clipedu.optim import build_optimizer

    holder = torch.nn.ModuleDict({"image_encoder": build_vit(**TINY, extra="registers", pos_embed="learned")})
    groups = {
        group["name"]: group for group in build_optimizer(holder, "adamw", lr=1e-3, weight_decay=0.1).param_groups
    }
    free = groups["not decayed"]["param_names"]
    assert {"image_encoder.reg_token", "image_encoder.pos_embed"} <= set(free)
    assert "image_encoder.blocks.0.attn.qkv.weight" in groups["decayed"]["param_names"]
