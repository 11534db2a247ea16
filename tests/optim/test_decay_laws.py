"""Decay laws against tables, recursions and update rules typed out in float64."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from clipedu.optim.decay_laws import DECAY_LAWS, coefficient, follow
from clipedu.optim.factory import build_optimizer
from clipedu.optim.schedule import learning_rate
from clipedu.utils.errors import ClipeduError

START = [1.0, -2.0, 0.5, 3.0]
GRADIENTS = [[0.1, -0.2, 0.3, 0.05], [0.2, 0.1, -0.1, 0.05], [-0.3, 0.05, 0.2, -0.1]]
RATES, DECAY = [0.1, 0.05, 0.0125], 0.5


def weight(values=START) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def step(optimizer, parameters, lr: float, gradient) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
    for parameter in parameters:
        parameter.grad = torch.as_tensor(gradient, dtype=torch.float64).clone()
    optimizer.step()


def walk(kind, law: str, gradients=GRADIENTS, rates=RATES, **options) -> list[Tensor]:
    """The weights after each step."""
    w = weight()
    optimizer = kind([w], lr=rates[0], weight_decay=DECAY, **options)
    follow(optimizer, law)
    weights = []
    for lr, gradient in zip(rates, gradients, strict=True):
        step(optimizer, [w], lr, gradient)
        weights.append(w.detach().clone())
    return weights


def close(actual, expected, digits=1e-10) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64), rtol=digits, atol=0)


# -- the laws as numbers


@pytest.mark.parametrize("law", DECAY_LAWS)
def test_at_the_peak_every_law_is_lambda_and_at_lr_0_nothing(law):
    for lr_max, decay in ((0.1, 0.5), (1e-3, 0.1), (0.3, 2.0)):
        assert coefficient(law, lr_max, lr_max=lr_max, weight_decay=decay) == pytest.approx(decay, rel=1e-13)
        assert coefficient(law, 0.0, lr_max=lr_max, weight_decay=decay) == 0.0
        assert coefficient(law, lr_max / 3, lr_max=lr_max, weight_decay=0.0) == 0.0
    assert coefficient(law, 0.0, lr_max=0.0, weight_decay=0.5) == 0.0


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 1e-3, 1e-9])
def test_the_shrink_of_each_law(share):
    lr_max, decay = 0.02, 2.0
    lr = share * lr_max

    def shrink(law):
        return lr * coefficient(law, lr, lr_max=lr_max, weight_decay=decay)

    assert shrink("constant") == pytest.approx(lr * decay, rel=1e-14)
    assert shrink("corrected") == pytest.approx(lr**2 * decay / lr_max, rel=1e-14)
    assert shrink("independent") == pytest.approx(lr_max * decay, rel=1e-14)
    kappa, s = lr_max / (decay * (2 - lr_max * decay)), shrink("corrected-exact")
    assert lr**2 / (s * (2 - s)) == pytest.approx(
        kappa, rel=1e-12
    )  # what it is the solution of; 1 - (1 - s)^2 = s (2 - s)
    if share >= 0.1:  # as it is printed, before its digits cancel
        assert s == pytest.approx(1 - math.sqrt(1 - lr**2 / kappa), rel=1e-10)


# E||w||^2 after T/4, T/2, 3T/4, .9T and T steps of half a cosine from the steady state: n' = (1 - lr lambda)^2 n + lr^2 C
COSINE = {
    (2000, 0.02, 0.5, 64.0): {
        "constant": (1.1342855, 0.7302818, 0.35888436, 0.26773022, 0.25965461),
        "corrected": (1.2850433, 1.282418, 1.2813641, 1.2813088, 1.2813082),
        "corrected-exact": (1.2864322,) * 5,
    },
    (2000, 0.02, 2.0, 64.0): {
        "constant": (0.28053568, 0.16785938, 0.060384687, 0.030023863, 0.026887212),
        "corrected": (0.32483655, 0.32184673, 0.32055679, 0.32047934, 0.32047841),
        "corrected-exact": (0.32653061,) * 5,
    },
    (20000, 0.001, 0.1, 384.0): {"constant": (1.8500626, 1.5816191, 1.3308736, 1.2784669, 1.2743777)},
}


def norms(law: str, total: int, peak: float, decay: float, size: float) -> list[float]:
    n = peak * size / (decay * (2 - peak * decay))
    seen = []
    for i in range(total):
        lr = peak * (1 + math.cos(math.pi * i / total)) / 2
        n = (1 - lr * coefficient(law, lr, lr_max=peak, weight_decay=decay)) ** 2 * n + lr**2 * size
        seen.append(n)
    return [seen[round(share * total) - 1] for share in (0.25, 0.5, 0.75, 0.9, 1.0)]


@pytest.mark.parametrize(("run", "law"), [(run, law) for run, laws in COSINE.items() for law in laws])
def test_the_norm_under_a_cosine(run, law):
    assert norms(law, *run) == pytest.approx(COSINE[run][law], rel=5e-8)


def test_independent_decay_lets_the_norm_fall_further_than_a_constant_lambda():
    run = (2000, 0.02, 2.0, 64.0)
    assert norms("independent", *run)[-1] < 0.1 * norms("constant", *run)[-1]


# -- the laws on optimizers


def test_adamw_against_the_table():
    constant, corrected = walk(torch.optim.AdamW, "constant"), walk(torch.optim.AdamW, "corrected")
    close(constant[0], [0.85000001, -1.800000005, 0.375000003333, 2.75000002], 1e-9)
    torch.testing.assert_close(corrected[0], constant[0], rtol=1e-15, atol=0)  # lr is lr_max
    close(constant[1], [0.780490911511, -1.74168315373, 0.345614075547, 2.6312500295])
    close(corrected[1], [0.791115911636, -1.7641831538, 0.350301575589, 2.66562502975])
    close(constant[2], [0.77644533097, -1.7300302733, 0.335915406781, 2.61575033332])
    close(corrected[2], [0.791330339986, -1.76203752498, 0.342489321689, 2.6644881267])
    exact = walk(torch.optim.AdamW, "corrected-exact")[2]
    close(exact, [0.791547124346, -1.76249830785, 0.342584986473, 2.66519152994])


def test_lion_against_the_table():
    from timm.optim import Lion

    options = {"betas": (0.9, 0.99)}
    close(walk(Lion, "constant", **options)[2], [0.7863828125, -1.80621875, 0.40052734375, 2.6273046875])
    close(walk(Lion, "corrected", **options)[2], [0.801258300781, -1.83857226562, 0.407484130859, 2.67604248047])


SCHEDULES = {
    "constant": lambda i: 0.1,
    "cosine": lambda i: learning_rate(i, peak=0.1, total=25, warmup=1),
    "warm-up and cosine": lambda i: learning_rate(i, peak=0.1, total=25, warmup=6),
    "up and down": lambda i: 0.1 * (0.5 + 0.5 * math.sin(i)),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("corrected", "ours", "options"),
    [
        ("adamc", "adamc", {}),
        ("adamc", "adamw", {"betas": (0.8, 0.95), "decay_law": "corrected"}),
        ("sgdc", "sgdc", {}),
        ("sgdc", "sgdw", {"momentum": 0.5, "nesterov": False, "decay_law": "corrected"}),
        ("lionc", "lionc", {}),
        ("lionc", "lion", {"betas": (0.5, 0.7), "decay_law": "corrected"}),
        ("lapropc", "laprop", {"decay_law": "corrected"}),
        ("adoptc", "adopt", {"decay_law": "corrected"}),
    ],
)
def test_as_timm_corrects_it(corrected, ours, options, seed, schedule):
    """timm's peak is the lr of construction."""
    from timm.optim import get_optimizer_class

    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    model, theirs = nn.Linear(4, 3, bias=False), nn.Parameter(start.clone())
    model.weight = nn.Parameter(start.clone())
    defaults = {"momentum": 0.9, "nesterov": True} if corrected == "sgdc" else {}
    given = {**defaults, **{key: value for key, value in options.items() if key != "decay_law"}}
    peer = get_optimizer_class(corrected)([theirs], lr=0.1, weight_decay=DECAY, **given)
    mine = build_optimizer(model, ours, lr=0.1, weight_decay=DECAY, heads=(), **options)
    for i in range(25):
        gradient = torch.randn(3, 4, generator=generator, dtype=torch.float64)
        step(peer, [theirs], SCHEDULES[schedule](i), gradient)
        step(mine, [model.weight], SCHEDULES[schedule](i), gradient)
    torch.testing.assert_close(model.weight, theirs, rtol=1e-11, atol=1e-13)
    assert (theirs - start).abs().max() > 0.1


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
@pytest.mark.parametrize("law", DECAY_LAWS)
def test_muon_under_a_law_is_torchs_muon_with_lambda_set_by_hand(law):
    """The Newton-Schulz steps are in bfloat16 in both."""
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(6, 4, generator=generator)
    model, theirs = nn.Linear(4, 6, bias=False), nn.Parameter(start.clone())
    model.weight = nn.Parameter(start.clone())
    peak = {} if law == "constant" else {"lr_max": 0.1}
    same = {"ns_coefficients": [(3.4445, -4.7750, 2.0315)] * 5}
    mine = build_optimizer(model, "muon", lr=0.1, weight_decay=DECAY, decay_law=law, **peak, **same)
    peer = torch.optim.Muon(
        [theirs], lr=0.1, weight_decay=DECAY, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    for i in range(12):
        lr = learning_rate(i, peak=0.1, total=12, warmup=4)
        gradient = torch.randn(6, 4, generator=generator)
        for w, optimizer in ((model.weight, mine), (theirs, peer)):
            w.grad = gradient.clone()
            optimizer.param_groups[0]["lr"] = lr
        peer.param_groups[0]["weight_decay"] = {
            "constant": DECAY,
            "corrected": DECAY * lr / 0.1,
            "corrected-exact": (1 - math.sqrt(1 - lr**2 * DECAY * (2 - 0.1 * DECAY) / 0.1)) / lr,
            "independent": DECAY * 0.1 / lr,
        }[law]
        mine.step()
        peer.step()
    torch.testing.assert_close(model.weight, theirs, rtol=0, atol=4e-3)
    assert (theirs - start).abs().max() > 0.2


@pytest.mark.parametrize("law", DECAY_LAWS)
def test_without_a_gradient_only_the_shrink_is_left(law):
    """Naive: w <- (1 - lr * lambda) w, over a warm-up and half a cosine, with lr_max given."""
    rates = [learning_rate(i, peak=0.2, total=20, warmup=5) for i in range(20)]
    w = weight()
    optimizer = torch.optim.AdamW([w], lr=rates[0], weight_decay=DECAY)
    follow(optimizer, law, lr_max=0.2)
    expected = torch.tensor(START, dtype=torch.float64)
    for lr in rates:
        step(optimizer, [w], lr, [0.0] * 4)
        shrink = {
            "constant": lr * DECAY,
            "corrected": lr * lr * DECAY / 0.2,
            "corrected-exact": 1 - math.sqrt(1 - lr**2 * DECAY * (2 - 0.2 * DECAY) / 0.2),
            "independent": 0.2 * DECAY,
        }[law]
        expected = expected - shrink * expected
        torch.testing.assert_close(w.detach(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("law", DECAY_LAWS)
def test_at_lr_0_nothing_moves_and_nothing_is_nan(law):
    w = weight()
    optimizer = torch.optim.AdamW([w], lr=0.0, weight_decay=DECAY)  # as a warm-up from 0 begins
    follow(optimizer, law)
    step(optimizer, [w], 0.0, GRADIENTS[0])
    close(w.detach(), START)
    step(optimizer, [w], 0.1, [0.0] * 4)
    assert bool(torch.isfinite(w).all()) and not torch.equal(w.detach(), weight().detach())


def test_a_warm_up_that_starts_small_does_not_make_decay_explode():
    def coefficients(**peak) -> list[float]:
        optimizer = torch.optim.AdamW([weight()], lr=1e-6, weight_decay=DECAY)
        follow(optimizer, "corrected", **peak)
        seen = []
        for lr in (1e-6, 0.05, 0.1, 0.05):
            step(optimizer, optimizer.param_groups[0]["params"], lr, [0.0] * 4)
            seen.append(optimizer.param_groups[0]["weight_decay"])
        return seen

    assert coefficients(lr_max=0.1) == pytest.approx([5e-6, 0.25, 0.5, 0.25])
    assert coefficients() == pytest.approx([0.5, 0.5, 0.5, 0.25])  # the peak is not known before it is reached


def test_the_peak_that_a_scheduler_has_noted():
    w = weight()
    optimizer = torch.optim.AdamW([w], lr=0.1, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=3)  # lr is 0.01 from here on
    follow(optimizer, "corrected")
    seen = []
    for _ in range(4):
        w.grad = torch.zeros_like(w)
        optimizer.step()
        schedule.step()
        seen.append(optimizer.param_groups[0]["weight_decay"])
    assert seen == pytest.approx([0.05, 0.2, 0.35, 0.5])


def test_every_group_has_its_own_peak_lambda_and_law():
    ws = [weight() for _ in range(4)]
    optimizer = torch.optim.AdamW(
        [
            {"params": ws[:1]},
            {"params": ws[1:2], "lr": 0.02, "weight_decay": 0.2},
            {"params": ws[2:3], "decay_law": "constant"},
            {"params": ws[3:], "lr_max": 0.4},
        ],
        lr=0.1,
        weight_decay=DECAY,
    )
    follow(optimizer, "corrected")
    late = weight()
    optimizer.add_param_group({"params": [late], "weight_decay": 0.3})
    for group in optimizer.param_groups:
        group["lr"] /= 2
    for w in (*ws, late):
        w.grad = torch.zeros_like(w)
    optimizer.step()
    shrinks = [0.05 * 0.25, 0.01 * 0.1, 0.05 * 0.5, 0.05 * 0.0625, 0.05 * 0.3]
    for w, shrink in zip((*ws, late), shrinks, strict=True):
        close(w.detach(), [x * (1 - shrink) for x in START], 1e-13)


def test_constant_lr_is_the_plain_optimizer():
    plain = walk(torch.optim.AdamW, "constant", rates=[0.1] * 3)[2]
    for law in DECAY_LAWS:
        torch.testing.assert_close(walk(torch.optim.AdamW, law, rates=[0.1] * 3)[2], plain, rtol=1e-14, atol=0)


@pytest.mark.parametrize("law", DECAY_LAWS)
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(law, tmp_path):
    rates = [learning_rate(i, peak=0.1, total=30, warmup=5) for i in range(30)]
    generator = torch.Generator().manual_seed(7)
    gradients = torch.randn(30, 4, generator=generator, dtype=torch.float64)

    def started(w, lr):
        optimizer = torch.optim.AdamW([w], lr=lr, weight_decay=DECAY)
        follow(optimizer, law)
        return optimizer

    whole = weight()
    optimizer = started(whole, rates[0])
    for i in range(30):
        step(optimizer, [whole], rates[i], gradients[i])
        if i == 17:
            torch.save({"w": whole.detach(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again = nn.Parameter(state["w"])
    optimizer = started(again, rates[18])  # a peak that is not the run's: the state knows better
    optimizer.load_state_dict(state["optimizer"])
    for i in range(18, 30):
        step(optimizer, [again], rates[i], gradients[i])
    assert torch.equal(again, whole)
    assert optimizer.param_groups[0]["lr_max"] == 0.1


def test_the_handle_ends_it():
    w = weight()
    optimizer = torch.optim.AdamW([w], lr=0.1, weight_decay=DECAY)
    handle = follow(optimizer, "corrected")
    step(optimizer, [w], 0.05, GRADIENTS[0])
    handle.remove()
    step(optimizer, [w], 0.01, GRADIENTS[1])
    assert optimizer.param_groups[0]["weight_decay"] == 0.25


def test_what_cannot_be_followed():
    def adamw():
        return torch.optim.AdamW([weight()], lr=0.1, weight_decay=DECAY)

    with pytest.raises(ClipeduError, match="unknown decay law 'correct'. Did you mean 'corrected'.*independent"):
        follow(adamw(), "correct")
    for peak in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ClipeduError, match="lr_max=.* must be a finite number above 0"):
            follow(adamw(), "corrected", lr_max=peak)
    with pytest.raises(ClipeduError, match="LBFGS has no weight_decay that could follow the law 'corrected'"):
        follow(torch.optim.LBFGS([weight()]), "corrected")
    optimizer = adamw()
    follow(optimizer, "corrected")
    groups = copy.deepcopy(optimizer.state_dict()["param_groups"])
    with pytest.raises(ClipeduError, match="AdamW follows a law already: 'independent' cannot be set on top"):
        follow(optimizer, "independent")
    assert optimizer.state_dict()["param_groups"] == groups
    with pytest.raises(ClipeduError, match="lr_max \\* weight_decay must be at most 1"):
        coefficient("corrected-exact", 0.5, lr_max=1.0, weight_decay=1.5)
    with pytest.raises(ClipeduError, match="and lr at most lr_max"):
        coefficient("corrected-exact", 0.5, lr_max=0.1, weight_decay=0.5)


def test_timms_own_correction_is_not_corrected_again():
    from timm.optim import SGDW

    optimizer = SGDW([weight()], lr=0.1, weight_decay=DECAY, corrected_weight_decay=True)
    with pytest.raises(ClipeduError, match="SGDW follows a law already"):
        follow(optimizer, "corrected")
