"""A batch of similarities under each loss: against formulas typed out here, and laws."""

import math

import pytest
import torch

import clipedu
from clipedu.toys.similarity_batch import (
    PAIRS,
    Given,
    examine,
    lead,
    remembered,
    scene_batch,
    silenced,
    similarity_losses,
    with_false_negative,
    with_rivals,
    with_similarity,
    with_swapped_captions,
)
from clipedu.utils.finite import NotFinite

S = scene_batch().similarity
SIZE = len(S)


def test_the_batch_is_what_its_captions_say():
    from clipedu.data.scenes.dataset import Scenes

    batch = scene_batch()
    assert batch.pixels.shape == (SIZE, 3, 64, 64) and batch.pixels.dtype == torch.uint8
    assert len(batch.names) == len(batch.captions) == SIZE and batch.similarity.dtype == torch.float64
    scenes = Scenes("train", 200)
    for row, _, caption in PAIRS[:-1]:
        says = scenes.chain(row)[3]
        assert caption.replace("big", "large") == says
        assert scenes.attributes.count[row] == 1
    assert scenes.chain(80)[3] == scenes.chain(117)[3]  # the false negative is one
    assert torch.equal(scene_batch(32).pixels, scenes.pixels(torch.tensor([row for row, _, _ in PAIRS])))


def test_pairs_stand_from_easy_to_hopeless():
    ahead = lead(S)
    assert (ahead.diff() < 0).all() and ahead[0] == pytest.approx(0.5) and (ahead < 0).sum() == 2


def test_lead_is_the_own_pair_less_the_best_rival_of_row_and_column():
    for i in range(SIZE):
        rivals = [S[i, j].item() for j in range(SIZE) if j != i] + [S[j, i].item() for j in range(SIZE) if j != i]
        assert lead(S)[i] == pytest.approx(S[i, i].item() - max(rivals))


@pytest.mark.parametrize("tau", [0.3, 0.05, 0.01])
def test_clip_of_a_table_is_the_formula(tau):
    seen = examine("clip", S, temperature=tau)
    p, q, own = (S / tau).softmax(1), (S / tau).softmax(0), torch.eye(SIZE).double()
    torch.testing.assert_close(seen.weights, (p + q - 2 * own) / (2 * SIZE * tau))
    torch.testing.assert_close(seen.pull, (2 - p.diagonal() - q.diagonal()) / (2 * SIZE * tau))
    assert seen.total == pytest.approx(-(p.diagonal().log() + q.diagonal().log()).mean().item() / 2)
    assert seen.total == pytest.approx(sum(seen.terms.values()))
    assert seen.size == pytest.approx(math.sqrt((seen.weights**2).sum()))


STAND_INS = ("sogclr", "isogclr", "onlineclr")  # their value's slope is not their gradient


@pytest.mark.parametrize("name", [name for name in similarity_losses() if name not in STAND_INS])
def test_weights_are_the_slope_of_the_loss(name):
    seen, step = examine(name, S, temperature=0.05), 1e-5
    for i, j in ((0, 0), (6, 5), (7, 7), (2, 1)):
        up = examine(name, with_similarity(S, i, j, S[i, j].item() + step), temperature=0.05).total
        down = examine(name, with_similarity(S, i, j, S[i, j].item() - step), temperature=0.05).total
        assert (up - down) / (2 * step) == pytest.approx(seen.weights[i, j].item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["clip", "dcl", "infoloob", "sogclr", "isogclr"])
def test_what_the_anchors_push_adds_up_to_the_pulls(name):
    weights = examine(name, S, temperature=0.05).weights
    assert weights.sum().item() == pytest.approx(0, abs=1e-6)


def test_no_anchor_goes_dark_in_dcl_and_in_sogclr_at_its_first_visit():
    for tau in (0.3, 0.05, 0.01):
        torch.testing.assert_close(examine("dcl", S, temperature=tau).pull, torch.full_like(S[0], 1 / (SIZE * tau)))
        pull = examine("sogclr", S, temperature=tau).pull
        torch.testing.assert_close(pull, torch.full_like(pull, 2 / SIZE), rtol=1e-5, atol=0)


def test_cyclip_is_examined_without_its_in_modal_part():
    seen = examine("cyclip", S, temperature=0.05)
    asymmetry = 0.25 * ((S - S.T) ** 2).sum().item() / SIZE
    assert seen.total == pytest.approx(examine("clip", S, temperature=0.05).total + asymmetry)
    assert seen.terms["in_modal"] == 0


def test_permuting_the_batch_permutes_the_weights():
    order = torch.tensor([3, 0, 7, 1, 6, 2, 5, 4])
    for name in similarity_losses():
        whole = examine(name, S, temperature=0.05).weights
        moved = examine(name, S[order][:, order], temperature=0.05).weights
        torch.testing.assert_close(moved, whole[order][:, order], rtol=1e-5, atol=1e-9)


def test_memory_makes_an_anchor_louder_by_one_over_gamma_at_most():
    harder = with_similarity(S, 2, 2, -0.5)
    fair = 2 / SIZE
    pull = examine("sogclr", harder, temperature=0.05, visits=[S], gamma=0.8).pull
    assert pull[2].item() == pytest.approx(fair / 0.8, rel=1e-3)
    assert pull[0].item() == pytest.approx(fair, rel=1e-4)
    easier = examine("sogclr", with_similarity(S, 2, 2, 0.9), temperature=0.05, visits=[S], gamma=0.8).pull
    assert easier[2] < 0.05 * fair
    without = examine("sogclr", harder, temperature=0.05, visits=[S], gamma=1.0).pull
    assert without[2].item() == pytest.approx(fair, rel=1e-4)


def test_looking_changes_nothing():
    before = S.clone()
    first = examine("onlineclr", S, temperature=0.05, visits=[S])
    second = examine("onlineclr", S, temperature=0.05, visits=[S])
    assert torch.equal(S, before) and torch.equal(first.weights, second.weights)
    assert not first.weights.requires_grad


def test_silenced_at_a_first_visit_is_a_mean_below_the_constant():
    for tau in (0.005, 0.01, 0.02, 0.05):
        z = (S - S.diagonal()[:, None]) / tau
        columns = (S.T - S.diagonal()[:, None]) / tau
        weights = []
        for side in (z, columns):
            others = side[~torch.eye(SIZE).bool()].view(SIZE, SIZE - 1)
            shift = others.amax(1).clamp(min=0)
            s = torch.exp(others - shift[:, None]).mean(1)
            weights.append(s / (s + 1e-8))
        assert torch.equal(silenced(S, tau), (weights[0] + weights[1]) / 2 < 0.5)


def test_a_bad_visit_silences_for_good_what_is_still_wrong():
    past = [with_rivals(S, 0.45)] + [S] * 34
    assert not silenced(S, 0.01)[6]
    assert silenced(S, 0.01, past)[6] and lead(S)[6] < 0


def test_memory_follows_the_recurrence_and_the_floor_does_not_fall():
    tau, gamma, pair = 0.01, 0.8, 6
    visits = [S] * 3 + [with_rivals(S, 0.45)] + [S] * 40
    log, course = (remembered(visits, tau, form, gamma) for form in ("log", "course"))
    others = [j for j in range(SIZE) if j != pair]
    u = None
    for step, s in enumerate(visits):
        z = [(s[pair, j] - s[pair, pair]).item() / tau for j in others]
        g = sum(math.exp(value) for value in z) / len(z)
        u = g if u is None else (1 - gamma) * u + gamma * g
        assert log["g"][step, pair].item() == pytest.approx(math.log(g), abs=1e-4)
        assert log["u"][step, pair].item() == pytest.approx(math.log(u), abs=1e-3)
    b = max((visits[3][pair, j] - visits[3][pair, pair]).item() for j in others) / tau
    assert course["u"][-1, pair].item() == pytest.approx(b + math.log(1e-8), abs=1e-2)
    assert log["u"][-1, pair].item() == pytest.approx(log["g"][-1, pair].item(), abs=1e-2)


def test_edits_leave_s_alone_and_do_what_they_say():
    before = S.clone()
    assert with_similarity(S, 1, 2, 0.9)[1, 2] == 0.9
    twins = with_false_negative(S, 0, 1)
    assert twins[0, 1] == S[0, 0] and twins[1, 0] == S[1, 1] and (twins != S).sum() == 2
    swapped = with_swapped_captions(S, 0, 3)
    assert torch.equal(swapped[:, 0], S[:, 3]) and torch.equal(swapped[:, 3], S[:, 0])
    assert torch.equal(with_swapped_captions(swapped, 0, 3), S)
    rivals = with_rivals(S, 0.2)
    assert torch.equal(rivals.diagonal(), S.diagonal())
    off = rivals.clone().fill_diagonal_(-9)
    assert (off.amax(1) >= S.diagonal() + 0.2 - 1e-12).all() and (off.amax(0) >= S.diagonal() + 0.2 - 1e-12).all()
    assert (rivals >= S).all() or (rivals != S).sum() <= 2 * SIZE
    assert torch.equal(S, before)


def test_a_given_table_is_read_off():
    torch.testing.assert_close(Given().similarity(S, torch.eye(SIZE).double()), S)


@pytest.mark.parametrize(
    "name, options, says",
    [
        ("vicreg", {}, "no function of S. Allowed: clip"),
        ("clop", {}, "Did you mean 'clip'"),
        ("clip", {"gamma": 1}, "no option 'gamma'"),
        ("clip", {"temperature": 0}, "temperature"),
        ("isogclr", {"temperature": 0.3}, "temperature_range"),
        ("sogclr", {"visits": [torch.eye(3).double()]}, "got [3, 3] and [8, 8]"),
    ],
)
def test_what_cannot_work_is_said(name, options, says):
    with pytest.raises(clipedu.ClipeduError) as error:
        examine(name, S, **{"temperature": 0.05, **options})
    assert says in str(error.value)


def test_a_table_that_is_not_square_is_refused():
    with pytest.raises(clipedu.ClipeduError, match=r"\[B, B\]"):
        examine("clip", S[:4], temperature=0.05)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_similarity_that_is_not_finite_is_named(value):
    table = with_similarity(scene_batch(32).similarity, 2, 5, value)
    good = scene_batch(32).similarity
    for see in (
        lambda: examine("clip", table, temperature=0.1),
        lambda: examine("sogclr", good, temperature=0.1, visits=[good, table]),
        lambda: lead(table),
        lambda: silenced(table, 0.1),
        lambda: remembered([good, table], 0.1),
    ):
        with pytest.raises(NotFinite, match=rf"S\[2, 5\] is {value:g}: similarities are finite numbers"):
            see()


@pytest.mark.parametrize("name", similarity_losses())
def test_a_loss_that_overflows_is_said(name):
    table = torch.full((3, 3), 1e307, dtype=torch.float64) * torch.tensor([1.0, -1.0, 1.0])
    try:
        seen = examine(name, table, temperature=0.02)
    except NotFinite as error:
        assert "is not finite with" in str(error) and "\n" not in str(error)
    else:
        assert torch.isfinite(seen.weights).all() and torch.isfinite(torch.tensor(seen.total))
