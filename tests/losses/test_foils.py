"""The foil term around a loss: a naive version of it, its gradient, what it logs, and where it is refused."""

import math

import pytest
import torch

from clipedu.geometry import build_geometry
from clipedu.losses import Entailed, Foiled, build_loss
from clipedu.utils.errors import ClipeduError

ROWS = torch.arange(70)  # more than one tile
TOLD = ROWS % 3 != 0


def batch(rows=70):
    noise = torch.Generator().manual_seed(0)
    image, text = torch.randn(rows, 6, generator=noise).double(), torch.randn(rows, 2, 6, generator=noise).double()
    return image.requires_grad_(), text.requires_grad_()


def naive(geometry, image, text, told, tau):
    """One row after the other: the cross-entropy of the caption against its foil."""
    losses = []
    for x, (true, false), has in zip(image, text, told.tolist(), strict=True):
        if has:
            logits = geometry.similarity(x[None], torch.stack([true, false]))[0] / tau
            losses.append(torch.log(logits.exp().sum()) - logits[0])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("name", ["cosine", "euclidean", "lorentz"])
@pytest.mark.parametrize("loss", ["clip", "sogclr", "siglip"])
def test_as_typed_out(name, loss):
    geometry = build_geometry(name, 6).double()
    inner = build_loss(loss, temperature=0.3, geometry=geometry, num_samples=70).double()
    image, text = batch()
    output = Foiled(inner, 0.5).double()(image, text, ROWS, TOLD)
    plain = inner(image, text[:, 0], ROWS)
    term = 0.5 * naive(geometry, image, text, TOLD, 0.3)
    torch.testing.assert_close(output.terms["foils"], term.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(sum(output.terms.values()), output.total.detach())
    assert output.terms.keys() == plain.terms.keys() | {"foils"}
    found = torch.autograd.grad(output.total - plain.total, [image, text], retain_graph=True)
    for one, other in zip(found, torch.autograd.grad(term, [image, text]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-9)


def test_rows_without_a_foil_are_not_looked_at():
    image, text = batch()
    loss = Foiled(build_loss("clip", temperature=0.1), 1.0)
    before = loss(image, text, ROWS, TOLD)
    with torch.no_grad():
        text[~TOLD, 1] *= -3
    after = loss(image, text, ROWS, TOLD)
    assert before.total == after.total and before.watch == after.watch
    none = loss(image, text, ROWS, torch.zeros(70, dtype=torch.bool))
    assert none.terms["foils"] == 0 and none.watch["foil_accuracy"] == 0.5
    assert none.total == loss.loss(image, text[:, 0], ROWS).total


def test_equal_captions_cost_log_2_and_half_of_them_are_right():
    image, text = batch()
    same = text[:, :1].expand(-1, 2, -1)
    output = Foiled(build_loss("clip", temperature=0.1), 2.0)(image, same, ROWS)
    assert output.terms["foils"].item() == pytest.approx(2 * math.log(2))
    assert output.watch["foil_accuracy"].item() == pytest.approx(0.5)


def test_accuracy_is_the_share_of_captions_that_are_closer():
    image = torch.eye(4)
    text = torch.stack([image, -image], 1)
    text[0] = text[0].flip(0)
    assert Foiled(build_loss("clip"), 1.0)(image, text, torch.arange(4)).watch["foil_accuracy"] == 0.75


def test_captions_alone_have_the_loss_without_the_term():
    image, text = batch()
    inner = build_loss("clip", temperature=0.1)
    loss = Foiled(inner, 1.0)
    assert loss(image, text[:, 0], ROWS).total == inner(image, text[:, 0], ROWS).total
    assert torch.equal(loss.pair_weights(image, text[:, 0], ROWS), inner.pair_weights(image, text[:, 0], ROWS))
    assert loss.stream_above == inner.stream_above


def test_a_learned_temperature_learns_from_foils():
    image, text = batch()
    loss = Foiled(build_loss("clip", temperature=0.5, learn_temperature=True), 1.0)
    term = loss(image, text, ROWS).total - loss.loss(image, text[:, 0], ROWS).total
    assert torch.autograd.grad(term, loss.loss.logit_scale)[0].abs() > 1e-3


def test_beside_entailment_with_its_schedule():
    inner = Entailed(
        build_loss("clip", geometry=build_geometry("lorentz", 6)), 0.2, min_radius=0.3, final_min_radius=0.1
    )
    loss = Foiled(inner, 1.0)
    loss.progress = 1.0
    image, text = batch()
    output = loss(image.float(), text.float(), ROWS)
    assert inner.min_radius == pytest.approx(0.1) and {"entailment", "foils"} <= output.terms.keys()


def test_what_is_refused():
    with pytest.raises(
        ClipeduError, match="vicreg rests on no similarity, so it cannot compare a caption with its foil"
    ):
        Foiled(build_loss("vicreg"), 1.0)
    with pytest.raises(ClipeduError, match="weight"):
        Foiled(build_loss("clip"), -1.0)
    image, text = batch()
    with pytest.raises(ClipeduError, match=r"\[B, 2, D\], a caption and its foil a row; got \[70, 3, 6\]"):
        Foiled(build_loss("clip"), 1.0)(image, torch.cat([text, text[:, :1]], 1), ROWS)
