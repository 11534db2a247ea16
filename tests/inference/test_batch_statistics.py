"""Batch-norm statistics computed again: one pass in training mode, typed out."""

import pytest
import torch
from torch import nn

from clipedu import Experiment, build_model
from clipedu.data.scenes.dataset import Scenes
from clipedu.inference.batch_statistics import StatisticsData, batch_norms, recompute_statistics, sides_apart
from tests.helpers.errors import message_of


@pytest.fixture(scope="module")
def pairs():
    return Scenes("train", 22, 32, 0)


def model(**changes):
    return build_model(Experiment(image_size=32, embedding_dim=8, **changes), 2000)


def test_they_are_those_of_one_pass_in_training_mode(pairs):
    one, data = model().eval(), StatisticsData(pairs, pictures=20, batch_size=8)
    batches = data.batches()
    assert [len(rows) for rows in batches] == [8, 8]  # whole batches alone
    weights = {name: p.clone() for name, p in one.named_parameters()}
    assert recompute_statistics(one, data) == len(batch_norms(one)) > 10

    typed = model()
    means = {name: [] for name in batch_norms(typed)}
    variances = {name: [] for name in means}
    for name, module in batch_norms(typed).items():

        def keep(module, given, name=name):
            x = given[0].detach().double()
            means[name].append(x.mean((0, 2, 3)))
            variances[name].append(x.var((0, 2, 3), correction=1))

        module.register_forward_pre_hook(keep)
    typed.train()
    with torch.no_grad():
        for rows in batches:
            typed.image_features(pairs.pixels(rows))
    for name, module in batch_norms(one).items():
        torch.testing.assert_close(module.running_mean.double(), torch.stack(means[name]).mean(0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            module.running_var.double(), torch.stack(variances[name]).mean(0), rtol=1e-5, atol=1e-6
        )
        assert module.momentum == 0.1 and not module.training
    assert not one.training and all(torch.equal(weights[name], p) for name, p in one.named_parameters())


def test_torch_does_the_same(pairs):
    """torch.optim.swa_utils.update_bn, which puts the whole model into training mode; nothing is dropped out here."""
    ours, theirs, data = model(), model(), StatisticsData(pairs, batch_size=11)
    recompute_statistics(ours, data)
    pixels = [theirs.mean.new_tensor(pairs.pixels(rows).numpy()) for rows in data.batches()]
    torch.optim.swa_utils.update_bn([(x - theirs.mean) / theirs.std for x in pixels], theirs.image_encoder)
    for name, buffer in ours.image_encoder.named_buffers():
        torch.testing.assert_close(buffer, dict(theirs.image_encoder.named_buffers())[name], rtol=1e-5, atol=1e-6)


def test_frozen_encoders_and_models_without_batch_norms_stay(pairs):
    for one in (model(image_frozen=True), model(image_encoder="fractal_vit_nano_patch4_32", image_options={})):
        before = {name: tensor.clone() for name, tensor in one.state_dict().items()}
        assert not batch_norms(one) and recompute_statistics(one, StatisticsData(pairs)) == 0
        assert all(torch.equal(before[name], tensor) for name, tensor in one.state_dict().items())


def test_frozen_encoders_that_differ_are_computed_again_where_asked_for(pairs):
    one, other = model(image_frozen=True), model(image_frozen=True)
    assert sides_apart([one, other]) == () and batch_norms(one) == {}
    next(other.image_encoder.parameters()).data.mul_(2)
    assert sides_apart([one, other]) == ("image",) and len(batch_norms(one, ["image"])) > 10
    before = one.image_encoder.bn1.running_mean.clone()
    assert recompute_statistics(one, StatisticsData(pairs, batch_size=11), ["image"]) > 10
    assert not torch.equal(before, one.image_encoder.bn1.running_mean)


def test_a_batch_norm_in_the_text_encoder_is_fed_with_captions(pairs, tiny_tokenizer):
    one = model()

    class Normed(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            self.norm = nn.BatchNorm1d(inner.config.dim)

        def forward(self, **given):
            out = self.inner(**given)
            out.last_hidden_state = self.norm(out.last_hidden_state.flatten(0, 1)).view_as(out.last_hidden_state)
            return out

    one.text_encoder, one.tokenizer = Normed(one.text_encoder), tiny_tokenizer
    one.eval()
    recompute_statistics(one, StatisticsData(pairs, batch_size=11))
    assert one.text_encoder.norm.num_batches_tracked == 2 and one.text_encoder.norm.running_mean.abs().max() > 0


@pytest.fixture(scope="module")
def tiny_tokenizer(pairs):
    from clipedu.data.tokenizer import train_tokenizer

    return train_tokenizer([caption for row in range(len(pairs)) for caption in pairs.captions(row)], 24)


def test_one_picture_has_no_variance():
    assert "has 1 picture: batch-norm statistics need at least 2" in message_of(
        StatisticsData(Scenes("train", 1)).batches
    )
