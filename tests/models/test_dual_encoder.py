"""The dual encoder: modes, masks, pixels and projections."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from clipedu.config.experiment import Experiment
from clipedu.data.tokenizer import train_tokenizer
from clipedu.geometry import build_geometry
from clipedu.models import DualEncoder, build_model
from clipedu.models.dual_encoder import Tower, evaluating, linear_projection
from clipedu.utils.errors import ClipeduError

VOCAB = 50
BASE = {
    "text_options": {"dim": 16, "n_heads": 2, "n_layers": 2, "hidden_dim": 32},
    "embedding_dim": 8,
    "text_length": 12,
}


def built(**changes) -> DualEncoder:
    return build_model(Experiment(**{**BASE, **changes}), VOCAB)


@pytest.fixture(scope="module")
def plain() -> DualEncoder:
    """For reading only: one model for all tests that don't change it."""
    return built().eval()


def pixels(count: int = 3) -> torch.Tensor:
    return torch.randint(256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def tokens(count: int = 3, length: int = 6):
    ids = torch.randint(4, VOCAB, (count, length), generator=torch.Generator().manual_seed(0))
    return ids, torch.ones(count, length, dtype=torch.bool)


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_shapes(plain):
    image, text = plain((pixels(),), tokens())
    assert image.shape == text.shape == (3, 8)
    assert plain.image_features(pixels()).shape == (3, plain.image_projection.in_features)
    assert plain.text_features(*tokens()).shape == (3, 16)
    assert plain.device.type == "cpu"


def test_embeddings_are_raw(plain):
    """Any length: the geometry normalises, not the model."""
    image, text = plain((pixels(),), tokens())
    assert image.norm(dim=1).sub(1).abs().min() > 1e-3 and text.norm(dim=1).sub(1).abs().min() > 1e-3
    torch.testing.assert_close(image, plain.image_projection(plain.image_features(pixels())))
    torch.testing.assert_close(text, plain.text_projection(plain.text_features(*tokens())))


def test_a_model_of_ones_own_towers():
    class Bag(nn.Module):
        def forward(self, input_ids, attention_mask):
            return SimpleNamespace(last_hidden_state=nn.functional.one_hot(input_ids, VOCAB).float())

    model = DualEncoder(
        Tower(nn.Flatten(), 3 * 32 * 32),
        Tower(Bag(), VOCAB, frozen=True),
        embedding_dim=4,
        pixel_stats=((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        geometry=build_geometry("cosine", 4),
        text_pooling="mean",
    )
    assert model.frozen == ("text",) and model.tokenizer is None
    flat = (pixels().float() / 255 - 0.5) / 0.25
    torch.testing.assert_close(model.encode_image(pixels()), model.image_projection(flat.flatten(1)))
    ids, mask = tokens()
    counts = nn.functional.one_hot(ids, VOCAB).float().mean(1)
    torch.testing.assert_close(model.encode_text(ids, mask), model.text_projection(counts))


def test_encoders_that_pool_and_projections_of_ones_own():
    """As a released model has them: no bias, no projection at all, its own size of images."""

    class Pooled(nn.Module):
        def forward(self, input_ids, attention_mask):
            return (input_ids * attention_mask).sum(1, keepdim=True).float()

    head = nn.Linear(1, 3 * 32 * 32, bias=False)
    model = DualEncoder(
        Tower(nn.Flatten(), 3 * 32 * 32, projection=nn.Sequential()),
        Tower(Pooled(), 1, projection=head),
        embedding_dim=3 * 32 * 32,
        pixel_stats=((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        geometry=build_geometry("cosine", 3 * 32 * 32),
        text_pooling="own",
        text_padding=(9, 1),
    )
    ids, mask = tokens()
    torch.testing.assert_close(model.text_features(ids, mask)[:, 0], (ids * mask).sum(1).float())
    torch.testing.assert_close(model.encode_text(ids, mask), head(model.text_features(ids, mask)))
    torch.testing.assert_close(model.encode_image(pixels()), model.normalise(pixels()).flatten(1))
    assert model.widths == {"image": 3 * 32 * 32, "text": 1} and model.image_size is model.logit_scale is None
    model.image_size = 16
    with pytest.raises(
        ClipeduError, match="images of 32 x 32 pixels do not fit this model, which reads 16 x 16: open the"
    ):
        model.encode_image(pixels())


def test_pixels_are_normalised_in_float32_for_an_encoder_of_less_precision():
    model = built()
    precise = model.normalise(pixels())
    for module in model.children():
        module.bfloat16()
    assert model.normalise(pixels()).dtype == torch.bfloat16 and precise.dtype == torch.float32
    assert torch.equal(model.normalise(pixels()), precise.bfloat16())


# modes and frozen encoders


@pytest.mark.parametrize("frozen", [("image",), ("text",), ("image", "text"), ()])
def test_a_frozen_encoder_stays_in_evaluation_mode(frozen):
    model = built(image_frozen="image" in frozen, text_frozen="text" in frozen)
    assert model.frozen == frozen
    for mode in (True, False, True):
        assert model.train(mode) is model and model.training is mode
        assert model.image_projection.training is model.text_projection.training is mode
        for side in ("image", "text"):
            expected = mode and side not in frozen
            assert all(module.training is expected for module in model.encoder(side).modules())
    model.eval()
    assert not any(module.training for module in model.modules())


def test_a_frozen_encoder_gets_no_gradient_and_its_statistics_stay():
    model = built(image_frozen=True, text_frozen=True).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    image, text = model((model.image_features(pixels()),), (model.text_features(*tokens()),))
    (image * text).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith(("image_projection", "text_projection")), name
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_trained_encoder_gets_gradients_and_counts_its_batches():
    model = built().train()
    image, text = model((pixels(8),), tokens(8))
    (image * text).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.image_encoder.bn1.num_batches_tracked == 1


def test_kept_features_stand_for_a_frozen_encoder():
    model = built(image_frozen=True, text_frozen=True).train()
    features = model((model.image_features(pixels()),), (model.text_features(*tokens()),))
    model.eval()
    for got, expected in zip(features, (model.encode_image(pixels()), model.encode_text(*tokens())), strict=True):
        assert torch.equal(got, expected)


def test_evaluating_puts_the_mode_back():
    model = built(image_frozen=True)
    for mode in (True, False):
        model.train(mode)
        with evaluating(model):
            assert not any(module.training for module in model.modules())
        assert model.training is model.text_encoder.training is mode and not model.image_encoder.training
        with pytest.raises(RuntimeError), evaluating(model):
            raise RuntimeError
        assert model.training is mode


# pixels


def test_uint8_and_float_pixels_agree(plain):
    assert torch.equal(plain.encode_image(pixels()), plain.encode_image(pixels().float()))


@pytest.mark.parametrize(("stats", "mean", "std"), [("inception", 0.5, 0.5), ("clip", 0.48145466, 0.26862954)])
def test_pixels_are_normalised_by_mean_and_std(stats, mean, std):
    model = built(pixel_stats=stats).eval()
    red = (pixels()[:, 0].double() / 255 - mean) / std
    seen = []
    model.image_encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model.image_features(pixels())
    torch.testing.assert_close(seen[0][:, 0].double(), red, rtol=1e-5, atol=1e-6)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_pixel_statistics_are_not_part_of_the_weights(plain):
    assert not {"mean", "std"} & set(plain.state_dict())


# texts


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_changes_nothing(pooling):
    model = built(text_pooling=pooling).eval()
    assert model.text_encoder.config._attn_implementation == "sdpa"
    ids, mask = tokens(3, 5)
    expected = model.encode_text(ids, mask)
    for filler in (0, 7):
        padded = torch.cat([ids, torch.full((3, 4), filler)], 1)
        longer = torch.cat([mask, torch.zeros(3, 4, dtype=torch.bool)], 1)
        torch.testing.assert_close(model.encode_text(padded, longer), expected, rtol=1e-4, atol=1e-5)
    seen = model.encode_text(padded, torch.ones_like(longer))
    assert not torch.allclose(seen, expected, atol=1e-3)  # the mask is what makes it so


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_texts_of_a_batch_do_not_see_each_other(pooling):
    model = built(text_pooling=pooling).eval()
    ids, mask = tokens(4, 6)
    mask[1, 3:], mask[2, 5:] = False, False
    alone = torch.cat([model.encode_text(ids[k : k + 1], mask[k : k + 1]) for k in range(4)])
    torch.testing.assert_close(model.encode_text(ids, mask), alone, rtol=1e-4, atol=1e-5)


class Letters:
    """One token a letter, between 1 and 2; 12 at most."""

    vocab_size, length = VOCAB, 12

    def encode(self, texts, strict=False):
        ids, lengths = np.zeros((len(texts), self.length), np.int32), np.zeros(len(texts), np.int32)
        for row, text in enumerate(texts):
            if strict and len(text) > self.length - 2:
                raise ClipeduError(f"text {row} has {len(text) + 2} tokens, the limit is {self.length}")
            numbers = [1, *(ord(letter) % 40 + 4 for letter in text[: self.length - 2]), 2]
            ids[row, : len(numbers)], lengths[row] = numbers, len(numbers)
        return ids, lengths


def test_embed_texts():
    model = built().train()
    model.tokenizer = Letters()
    got = model.embed_texts(["ab", "a longer"])
    assert model.training and not got.requires_grad and got.shape == (2, 8)
    model.eval()
    expected = model.encode_text(
        torch.tensor([[1, *(ord(x) % 40 + 4 for x in "ab"), 2]]), torch.ones(1, 4, dtype=torch.bool)
    )
    torch.testing.assert_close(got[:1], expected.detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ClipeduError, match="text 1 has 22 tokens, the limit is 12"):
        model.embed_texts(["ab", "x" * 20])
    assert torch.equal(model.embed_texts(["x" * 20], strict=False), model.embed_texts(["x" * 10]))
    with pytest.raises(ClipeduError, match="no texts to embed"):
        model.embed_texts([])


def test_a_model_without_a_tokenizer(plain):
    with pytest.raises(ClipeduError, match="this model has no tokenizer"):
        plain.embed_texts(["a"])


def test_texts_of_a_frozen_encoder_are_embedded_once(monkeypatch):
    model = built(text_frozen=True)
    model.tokenizer = train_tokenizer(["a red circle", "a blue square"], length=6)
    texts = ["a red circle", "a blue square beside a red circle"]
    expected = model.embed_texts(texts, strict=False)
    cut, calls, features = model.tokenizer.truncated, [], model.text_features
    monkeypatch.setattr(model, "text_features", lambda *x: calls.append(1) or features(*x))
    model.remembered = {}
    first = model.embed_texts(texts, strict=False)
    model.tokenizer.truncated = 99
    again = model.embed_texts(texts, strict=False)
    assert len(calls) == 1 and model.tokenizer.truncated == cut > 0
    assert torch.equal(first, expected) and torch.equal(again, expected)
    with torch.no_grad():
        model.text_projection.weight.mul_(2)
    assert not torch.equal(model.embed_texts(texts, strict=False), expected)  # the projection is its own
    assert len(calls) == 1


# projections


def test_a_projection_without_a_bias_keeps_the_variance():
    torch.manual_seed(0)
    layer = linear_projection(400, 300)
    assert layer.bias is None and layer.weight.shape == (300, 400)
    assert float(layer.weight.std()) == pytest.approx(400**-0.5, rel=0.01)
    assert float(layer.weight.mean()) == pytest.approx(0, abs=1e-3)
    assert float(layer(torch.randn(500, 400)).var()) == pytest.approx(1, rel=0.03)


def test_a_projection_with_a_bias_is_torchs():
    torch.manual_seed(5)
    layer = linear_projection(7, 4, bias=True)
    torch.manual_seed(5)
    assert same(layer, nn.Linear(7, 4))


def test_without_a_bias_the_length_of_features_is_free_in_the_cosine_geometry(plain):
    """So a projection's norm changes no cosine, as with a layer that a normalisation follows."""
    features = plain.image_features(pixels())
    one, three = (
        plain.geometry.similarity(x, x) for x in (plain.project_image(features), plain.project_image(3 * features))
    )
    torch.testing.assert_close(one, three)


def test_captions_beside_each_other_are_those_of_a_list(plain):
    model = plain.eval()
    ids = torch.randint(5, 50, (3, 2, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[1, 1, 4:] = False
    torch.testing.assert_close(model.encode_text(ids, mask)[:, 1], model.encode_text(ids[:, 1], mask[:, 1]))
    assert model.encode_text(ids, mask).shape == (3, 2, model.text_projection.out_features)
