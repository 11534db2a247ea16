"""What all losses share, on the simplest ones: S itself, and S minus a running mean."""

import math

import pytest
import torch

from clipedu.geometry import Cosine, build_geometry
from clipedu.losses.base import Loss, LossOutput, SimilarityLoss, add_up
from clipedu.utils.errors import ClipeduError

from .oracle import Dot, assert_close, random_pairs

ROWS = torch.arange(5)


class Mean(SimilarityLoss):
    """The mean of S / tau, in two terms, with a memory that counts training batches."""

    def __init__(self, **options):
        super().__init__(**options)
        self.register_buffer("count", torch.zeros(()))

    @property
    def clip_scale(self):
        return 10.0

    def blend(self, similarity, index):
        assert not similarity.requires_grad
        return {"count": self.count + 1}

    def store(self, index, memory):
        self.count.copy_(memory["count"])

    def objective(self, similarity, **memory):
        half = (similarity / self.temperature).mean() / 2
        return {"half": half, "counted": half * memory["count"]}

    def streamed(self, image, text, index):
        return {"streamed": torch.ones(()) * len(image)}


def test_output_is_the_sum_of_its_detached_terms():
    x, y = (z.requires_grad_() for z in random_pairs(0))
    output = Mean(temperature=0.5, geometry=Dot())(x, y, ROWS)
    mean = (x @ y.T).mean().item() / 0.5
    assert isinstance(output, LossOutput) and output.total.item() == pytest.approx(mean, rel=1e-12)
    assert {name: term.item() for name, term in output.terms.items()} == pytest.approx(
        {"half": mean / 2, "counted": mean / 2}
    )
    assert output.total.requires_grad and not any(term.requires_grad for term in output.terms.values())
    assert output.watch == {}


def test_terms_add_up_in_their_order():
    parts = [torch.tensor(value) for value in (1e8, 1.0, -1e8)]
    assert add_up(parts).item() == ((parts[0] + parts[1]) + parts[2]).item()


def test_memory_changes_in_a_training_forward_only():
    loss = Mean()
    batch = (*random_pairs(0), ROWS)
    loss.pair_weights(*batch)
    loss.eval()(*batch)
    assert loss.count == 0
    loss.train()(*batch)
    assert loss.count == 1


def test_pair_weights_are_the_gradient_in_s():
    weights = Mean(temperature=0.5).pair_weights(*random_pairs(0), ROWS)  # count is 1: after this batch
    assert_close(weights, torch.full((5, 5), 2 / 25, dtype=torch.float64), rtol=1e-12)
    assert_close(Mean(temperature=0.5, scale="clip").pair_weights(*random_pairs(0), ROWS), 10 * weights, rtol=1e-12)


def test_scale_clip_multiplies_every_term():
    batch = (*random_pairs(0), ROWS)
    paper, clip = Mean()(*batch), Mean(scale="clip")(*batch)
    for name, term in paper.terms.items():
        assert_close(clip.terms[name], 10 * term, rtol=1e-12)


def test_a_batch_above_the_limit_is_streamed():
    loss = Mean(scale="clip")
    loss.stream_above = 4
    assert {name: value.item() for name, value in loss(*random_pairs(0), ROWS).terms.items()} == {"streamed": 50.0}
    loss.stream_above = 5
    assert "half" in loss(*random_pairs(0), ROWS).terms


def test_a_batch_comes_in_one_dtype():
    x, y = random_pairs(0)
    for a, b, wide in ((16, 16, 32), (16, 32, 32), (32, 64, 64)):
        dtypes = [getattr(torch, f"float{bits}") for bits in (a, b, wide)]
        image, text, index = Loss().prepare(x.to(dtypes[0]), y.to(dtypes[1]), ROWS)
        assert image.dtype == text.dtype == dtypes[2] and index is ROWS


def test_batches_that_do_not_fit():
    x, y = random_pairs(0)
    for bad in ((x, y[:-1], ROWS), (x, y, ROWS[:-1]), (x[0], y[0], ROWS)):
        with pytest.raises(ClipeduError, match=r"takes image \[B, D\], text \[B, D\] and index \[B\]; got \["):
            Loss().prepare(*bad)
    with pytest.raises(ClipeduError, match="int64; got torch.int32"):
        Loss().prepare(x, y, ROWS.int())
    with pytest.raises(ClipeduError, match="a batch of 1 has nothing to compare"):
        Loss().prepare(x[:1], y[:1], ROWS[:1])


def test_a_fixed_temperature_is_a_float():
    loss = Mean(temperature=1)
    assert loss.temperature == loss.temperature_value == 1.0 and type(loss.temperature) is float
    assert loss.logit_scale is None and isinstance(loss.geometry, Cosine)
    with pytest.raises(AssertionError, match="not learned"):
        _ = loss.learned_temperature


def test_a_learned_temperature_has_a_gradient_and_its_value_has_none():
    loss = Mean(temperature=0.25, learn_temperature=True)
    assert loss.temperature.item() == pytest.approx(0.25) and loss.temperature.requires_grad
    assert not loss.temperature_value.requires_grad
    assert loss.watched()["temperature"].item() == pytest.approx(0.25)
    (gradient,) = torch.autograd.grad(loss.temperature, loss.logit_scale)
    assert gradient.item() == pytest.approx(-0.25)  # tau = exp(-logit_scale)


def test_a_learned_temperature_starts_within_the_range_of_the_geometry():
    with pytest.raises(ClipeduError, match="cannot start at 2: this geometry allows 0.01 to 1"):
        Mean(temperature=2, learn_temperature=True)
    squared = build_geometry("euclidean-squared", 3)
    assert Mean(temperature=2, learn_temperature=True, geometry=squared).temperature.item() == pytest.approx(2)
    assert math.exp(-squared.logit_scale_range[0]) > 2


def test_wrong_options():
    for options, message in (
        ({"temperature": 0}, "temperature must be a number > 0, got 0"),
        ({"scale": "big"}, "unknown scale 'big'"),
        ({"geometry": "cosine"}, r"geometry must be an object, got 'cosine': pass build_geometry\(name, dim\)"),
    ):
        with pytest.raises(ClipeduError, match=message):
            Mean(**options)


def test_a_loss_implements_its_own_formula():
    x, y = random_pairs(0)
    for call in (Loss().terms, Loss().pair_weights, SimilarityLoss().streamed):
        with pytest.raises(NotImplementedError):
            call(x, y, ROWS)
    assert SimilarityLoss().blend(x @ y.T, ROWS) == {}
