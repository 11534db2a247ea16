"""Which layers a normalisation follows, by their gradients: convolutions before a batch norm, and projections onto the sphere."""

import math

import pytest
import torch

from clipedu import Experiment, build_model
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.tokenizer import train_tokenizer
from clipedu.inference.batch_statistics import batch_norms
from clipedu.inference.radial_gradients import is_orthogonal, radial_gradients


@pytest.fixture(scope="module")
def pairs():
    return Scenes("train", 24, 32, 0)


@pytest.fixture(scope="module")
def model(pairs):
    tokenizer = train_tokenizer([caption for row in range(24) for caption in pairs.captions(row)], 24)
    model = build_model(Experiment(embedding_dim=16, projection_bias=True), tokenizer.vocab_size)
    model.tokenizer = tokenizer
    for module in batch_norms(model).values():  # some gains begin at 0, and nothing below them gets a gradient
        torch.nn.init.ones_(module.weight)
    return model.eval()


@pytest.fixture(scope="module")
def radial(model, pairs):
    return radial_gradients(model, pairs, batches=3, rows=8)


def test_convolutions_before_a_batch_norm_are_orthogonal_and_others_are_not(model, radial):
    sizes = {name: p.numel() for name, p in model.named_parameters() if p.ndim > 1}
    found = {name for name, size in sizes.items() if is_orthogonal(radial[name], size)}
    assert found == {name for name in sizes if name.startswith("image_encoder")}
    assert len(found) == 15 and all(0 <= value <= 1 for value in radial.values())


def test_the_model_stays_as_it_is(model, pairs):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    radial_gradients(model, pairs, batches=1, rows=4)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module.training for module in model.modules()) and all(p.grad is None for p in model.parameters())


def test_a_cosine_typed_out(model, pairs, radial):
    """Of the text projection, which no batch norm is in the way of: one batch of all rows."""
    from clipedu.inference.radial_gradients import _SEED
    from clipedu.utils.seeding import seeded

    order = torch.randperm(len(pairs), generator=seeded(_SEED))
    largest = 0.0
    for rows in order.split(8)[:3]:
        ids, mask = pairs.tokens(rows)
        model.image_encoder.train()
        state = {k: v.clone() for k, v in model.state_dict().items()}
        image = model.encode_image(pairs.pixels(rows))
        model.load_state_dict(state)
        model.image_encoder.eval()
        x, y = (torch.nn.functional.normalize(side, dim=1) for side in (image, model.encode_text(ids, mask)))
        logits, own = 20 * x @ y.T, torch.arange(8)
        loss = -(logits.log_softmax(1)[own, own].mean() + logits.log_softmax(0)[own, own].mean()) / 2
        w = model.text_projection.weight
        (g,) = torch.autograd.grad(loss, [w])
        largest = max(largest, abs(torch.nn.functional.cosine_similarity(w.flatten(), g.flatten(), dim=0).item()))
    assert radial["text_projection.weight"] == pytest.approx(largest, rel=1e-3)


def test_frozen_encoders_have_no_gradient(pairs):
    frozen = build_model(Experiment(image_frozen=True, text_frozen=True, embedding_dim=16), 400)
    frozen.tokenizer = train_tokenizer([caption for row in range(24) for caption in pairs.captions(row)], 24)
    found = radial_gradients(frozen.eval(), pairs, batches=1, rows=4)
    assert set(found) == {"image_projection.weight", "text_projection.weight"}
    for name, value in found.items():  # without a bias, the sphere takes out its length
        assert is_orthogonal(value, frozen.get_parameter(name).numel())


def test_a_large_layer_needs_a_smaller_cosine():
    assert is_orthogonal(9e-4, 100) and not is_orthogonal(2e-3, 100)
    assert not is_orthogonal(2e-4, 10**6) and is_orthogonal(0.05 / math.sqrt(10**6), 10**6)
