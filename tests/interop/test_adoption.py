"""`adopt`: embeddings, scores and instruments of a released model are those of its library."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import normalize

import clipedu
from clipedu import ClipeduError, adopt
from clipedu.inference.attention import name_tokens, reads_attention
from clipedu.inference.embed import embed_pairs
from tests.helpers.released import LENGTH, OPEN_CLIP, SIZE, embeddings

pytestmark = pytest.mark.xdist_group("interop")
EVERY = [*OPEN_CLIP, "clip", "siglip", "siglip2", "dual", "dual_roberta"]
TEXTS = [
    "a red star",
    "a photo of a small blue ring and a large green circle above a plain square left",
    "",
    "Red, plain!",
]


def pictures(model, count: int = 3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, model.image_size, model.image_size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("kind", EVERY)
def test_embeddings_are_those_of_the_library(kind, released):
    folder, library = released(kind)
    model = adopt(folder)
    assert not model.training and model.geometry.name == "cosine" and model.frozen == ()
    pixels = pictures(model)
    with torch.no_grad():
        own = model.encode_image(pixels), model.embed_texts(TEXTS, strict=False)
    assert model.tokenizer.truncated == 1
    for mine, theirs in zip(own, embeddings(library, folder, pixels, TEXTS), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(normalize(mine), normalize(theirs), rtol=0, atol=1e-6)
        if kind != "coca":  # which normalises
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=2e-6)
    assert model.logit_scale == pytest.approx(library.logit_scale.item())
    bias = getattr(library, "logit_bias", None)
    assert model.logit_bias == pytest.approx(0.0 if bias is None else bias.item())


@pytest.mark.parametrize("kind", ["vit", "clip", "siglip2"])
def test_bfloat16_is_that_of_the_library(kind, released):
    """Its numbers have 8 bits, so unit vectors move by some thousandths; the pixels' mean and std stay in float32 until then."""
    folder, library = released(kind)
    model, whole = adopt(folder, dtype=torch.bfloat16), adopt(folder)
    pixels = pictures(model)
    theirs = embeddings(copy.deepcopy(library).bfloat16(), folder, pixels, TEXTS, torch.bfloat16)
    with torch.no_grad():
        own = model.encode_image(pixels), model.embed_texts(TEXTS, strict=False)
        precise = whole.encode_image(pixels), whole.embed_texts(TEXTS, strict=False)
    for mine, lib, exact in zip(own, theirs, precise, strict=True):
        assert mine.dtype == torch.bfloat16
        assert (normalize(mine.float()) - normalize(lib.float())).abs().max() < 2e-3
        assert (normalize(mine.float()) - normalize(exact)).abs().max() < 2e-2
    assert model.mean.dtype == torch.float32


@pytest.mark.parametrize("kind", ["vit", "siglip"])
def test_scores_are_those_of_the_embeddings_of_the_library(kind, released, few_scenes):
    folder, library = released(kind)
    model, pairs = adopt(folder), clipedu.load_pairs("scenes", "val", image_size=SIZE, size=40)
    scores = clipedu.evaluate(model, pairs)
    captions = [caption for row in range(len(pairs)) for caption in pairs.captions(row)]
    owner = torch.tensor([row for row in range(len(pairs)) for _ in pairs.captions(row)])
    theirs = embeddings(library, folder, pairs.pixels(torch.arange(len(pairs))), captions)
    image, text = (normalize(x.double()) for x in theirs)
    similarity = image @ text.T
    for k in (1, 5, 10):
        right = (owner[similarity.topk(k).indices] == torch.arange(len(image))[:, None]).any(1)
        assert scores[f"tr@{k}"] == pytest.approx(100 * right.double().mean().item())
        right = (similarity.T.topk(k).indices == owner[:, None]).any(1)
        assert scores[f"ir@{k}"] == pytest.approx(100 * right.double().mean().item())
    assert scores["modality_gap"] == pytest.approx(
        (image.mean(0) - text[[int(torch.where(owner == row)[0][0]) for row in range(len(image))]].mean(0))
        .norm()
        .item(),
        abs=1e-5,
    )
    found = embed_pairs(model, pairs)
    torch.testing.assert_close(normalize(found.text.double()), text, rtol=0, atol=1e-6)
    labelled = clipedu.load_pairs("scenes", "zeroshot", image_size=SIZE, size=40)
    assert 0 <= clipedu.evaluate(model, labelled)["top1"] <= 100


@pytest.mark.parametrize(
    ("kind", "before", "blocks"),
    [("vit", 1, 2), ("timm_siglip", 1, 9), ("clip", 1, 2), ("siglip", 0, 2), ("siglip2", 0, 2), ("dual", 1, 2)],
)
def test_attention_and_token_norms(kind, before, blocks, released):
    model = adopt(released(kind)[0])
    pixels, tokens = pictures(model), name_tokens(model)
    rows, columns = tokens.grid
    assert tokens.extra == before and len(tokens.names) == before + rows * columns == before + rows**2
    assert reads_attention(model) and reads_attention(model, model.image_size) and not reads_attention(model, 7)
    maps, norms = clipedu.attention_maps(model, pixels), clipedu.token_norms(model, pixels)
    assert maps.shape[:2] == (blocks, 3) and maps.shape[-1] == maps.shape[-2] == len(tokens.names)
    assert norms.shape == (blocks, 3, len(tokens.names))
    torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))
    assert len(clipedu.artifacts(norms, tokens, pixels)) == blocks and not model.training
    with pytest.raises(ClipeduError, match="do not fit this model, which takes"):
        clipedu.token_norms(model, pixels[..., :8])


@pytest.mark.parametrize("kind", ["resnet", "timm_convnext"])
def test_a_convolutional_network_has_no_attention(kind, released):
    model = adopt(released(kind)[0])
    assert not reads_attention(model)
    with pytest.raises(ClipeduError, match="has no attention maps that can be read here"):
        clipedu.attention_maps(model, pictures(model))


def test_norms_and_groups(released):
    model = adopt(released("vit")[0]).train()
    optimizer = clipedu.build_optimizer(model, "adamc", lr=0.1, weight_decay=0.1)
    groups = {group["name"]: group["param_names"] for group in optimizer.param_groups}
    assert groups["head"] == ["image_projection.weight", "text_projection.weight"]
    assert "image_encoder.visual.positional_embedding" in groups["not decayed"]  # open_clip exempts it
    assert "text_encoder.text.transformer.resblocks.0.attn.in_proj_weight" in groups["decayed"]
    with clipedu.NormMonitor(model, optimizer) as monitor:
        image, text = model((pictures(model),), (torch.ones(3, LENGTH, dtype=torch.long), torch.ones(3, LENGTH).bool()))
        (image * text).sum().backward()
        optimizer.step()
    assert monitor.parts == ["all", "image", "text"]
    frame = monitor.frame()
    layer = frame[frame["layer"] == "image_encoder.visual.ln_pre.weight"].iloc[0]
    assert layer["part"] == "image" and layer["update"] > 0


def test_a_file_and_random_weights(released):
    folder, _ = released("clip")
    model = adopt(folder / "model.safetensors")
    again, drawn = adopt(folder, weights=folder / "model.safetensors"), adopt(folder, "random")
    same = adopt(folder, "random", seed=0)
    other = adopt(folder, "random", seed=1)
    pixels = pictures(model)
    with torch.no_grad():
        one, two, three, four, five = (m.encode_image(pixels) for m in (model, again, drawn, same, other))
    assert torch.equal(one, two) and torch.equal(three, four)
    assert not torch.equal(one, three) and not torch.equal(three, five)
    assert torch.equal(adopt(folder, "pretrained").encode_image(pixels), model.encode_image(pixels))


def test_random_weights_leave_the_global_random_state(released):
    torch.manual_seed(5)
    expected = torch.rand(1)
    for kind in ("clip", "vit"):
        torch.manual_seed(5)
        adopt(released(kind)[0], "random")
        assert torch.equal(torch.rand(1), expected)


def test_images_of_another_size_and_a_text_that_is_too_long(released):
    model = adopt(released("clip")[0])
    pairs = clipedu.load_pairs("scenes", "val", image_size=48, size=4)
    with pytest.raises(
        ClipeduError, match="^images of 48 x 48 pixels do not fit this model, which reads 32 x 32: open the pairs"
    ):
        clipedu.evaluate(model, pairs)
    with pytest.raises(
        ClipeduError, match="text 0 has 32 tokens, the limit is 16, special tokens included: shorten 'a a"
    ):
        model.embed_texts(["a " * 30])


@pytest.mark.parametrize("dtype", [torch.int8, "float32", None])
def test_a_dtype_that_is_none(dtype, released):
    with pytest.raises(ClipeduError, match="must be one of floating numbers, as torch.float32"):
        adopt(released("clip")[0], dtype=dtype)
