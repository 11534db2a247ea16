"""Parts of a batch give the gradient of the whole batch."""

import pytest
import torch
from torch import nn

from clipedu.losses import build_loss
from clipedu.training.gradient_cache import backward_in_parts, running_averages_kept


class Towers(nn.Module):
    def __init__(self, dropout=0.0, norm=None):
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Sequential(
            nn.Linear(5, 16), norm or nn.Identity(), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 8)
        )
        self.text = nn.Sequential(nn.Linear(7, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 8))
        self.double()

    def forward(self, part):
        return self.image(part[0]), self.text(part[1])


def batch(seed, size=12):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(size, width, generator=generator, dtype=torch.float64) for width in (5, 7))


def parts_of(whole, count):
    return list(zip(*(side.chunk(count) for side in whole), strict=True))


def gradients(model):
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("count", [1, 2, 3, 12])
@pytest.mark.parametrize("name", ["clip", "sogclr", "cyclip", "vicreg", "siglip"])
def test_gradient_of_parts_is_that_of_the_whole(name, count):
    model, whole, index = Towers(), batch(seed=count), torch.arange(12)
    options = {} if name == "vicreg" else {"temperature": 0.1}
    losses = [build_loss(name, num_samples=12, **options).double() for _ in range(2)]
    losses[0](*model(whole), index).total.backward()
    expected = gradients(model) + gradients(losses[0])
    model.zero_grad()
    backward_in_parts(model, parts_of(whole, count), lambda x, y: losses[1](x, y, index).total, model)
    for got, want in zip(gradients(model) + gradients(losses[1]), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
    for name, buffer in losses[0].named_buffers():
        torch.testing.assert_close(dict(losses[1].named_buffers())[name], buffer)


def test_a_tower_that_is_not_trained_gets_no_gradient():
    """As with LiT: --image-frozen true --lock image_projection."""
    model, whole = Towers(), batch(seed=3)
    model.image.requires_grad_(False)
    model(whole)[1].mul(model(whole)[0]).sum().backward()
    expected = [p.grad.clone() for p in model.text.parameters()]
    model.zero_grad()
    backward_in_parts(model, parts_of(whole, 3), lambda x, y: (x * y).sum(), model)
    for p, want in zip(model.text.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, want)
    model.text.requires_grad_(False)
    backward_in_parts(model, parts_of(whole, 3), lambda x, y: (x * y).sum(), model)  # what the loss learns may be left


def test_small_batches_added_up_would_be_something_else():
    model, whole = Towers(), batch(seed=0)
    loss = build_loss("clip", temperature=0.1)
    loss(*model(whole), torch.arange(12)).total.backward()
    expected = gradients(model)
    model.zero_grad()
    for part in parts_of(whole, 3):
        (loss(*model(part), torch.arange(4)).total / 3).backward()
    differences = [(got - want).norm() / want.norm() for got, want in zip(gradients(model), expected, strict=True)]
    assert max(differences) > 0.1


def test_dropout_draws_the_same_masks_in_both_passes():
    model, whole, seen = Towers(dropout=0.5), batch(seed=1), []

    def encode(part):
        seen.append(model(part))
        return seen[-1]

    backward_in_parts(encode, parts_of(whole, 3), lambda x, y: (x * y).sum(), model)
    for first, second in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(seen[0][0], model(parts_of(whole, 3)[0])[0])  # another step, another mask


def test_batch_norm_averages_see_each_part_once():
    model, whole = Towers(norm=nn.BatchNorm1d(16)), batch(seed=2)
    once = Towers(norm=nn.BatchNorm1d(16))
    for part in parts_of(whole, 2):
        once(part)
    backward_in_parts(model, parts_of(whole, 2), lambda x, y: (x * y).sum(), model)
    torch.testing.assert_close(model.image[1].running_mean, once.image[1].running_mean)
    torch.testing.assert_close(model.image[1].running_var, once.image[1].running_var)
    with pytest.raises(KeyError), running_averages_kept(model):
        assert model.image[1].momentum == 0
        raise KeyError
    assert model.image[1].momentum == 0.1
