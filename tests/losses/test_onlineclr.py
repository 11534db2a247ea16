import math

import pytest
import torch

from clipedu.losses import build_loss
from clipedu.utils.errors import ClipeduError

from .oracle import COLLAPSED, ROWS, Probe, assert_close, cosines, numbers, oracle_set, random_pairs

SHIFTS = [(0.96148418, 0.8821162326), (0.9731549732, 0.9555374261), (0.993572365, 0.9123991606)]
COURSE = {
    # temperature, gamma: L gX gY cX cY rX rY, and the two running sums in units of exp(shift / temperature)
    (0.07, 0.5): [
        (
            "2.989398512 2.020483462 2.064015425 -2.082129717 1.442787876 0.8177128274 1.410998479",
            1.943329481,
            1.249173848,
        ),
        (
            "2.275390155 1.654807538 1.817216819 -0.852207527 1.169935435 0.59397395 0.3185273575",
            2.552906155,
            2.37204617,
        ),
        (
            "2.553238058 1.74720098 1.606649573 0.1528617805 0.2701124363 0.3247848146 0.3627747127",
            3.632480959,
            4.019417009,
        ),
    ],
    (0.07, 0.8): [
        (
            "1.86837407 1.262802164 1.29000964 -1.301331073 0.9017424223 0.5110705171 0.8818740495",
            3.10932717,
            1.998678156,
        ),
        (
            "1.716680719 1.241473473 1.364615584 -0.6529007001 0.8645391866 0.440852109 0.2317031698",
            3.295099806,
            3.255375407,
        ),
        (
            "1.970689727 1.347831932 1.242057849 0.1188392706 0.2128716312 0.2551098663 0.2832371965",
            4.778627222,
            5.105268158,
        ),
    ],
    (0.01, 0.8): [
        (
            "2.302445659 1.541459539 1.541459552 -1.567652847 0.9615772852 0.6459673614 1.080940552",
            2.658948889,
            1.600000155,
        ),
        (
            "2.184233335 1.604246303 2.173106443 -1.131614129 0.6896154679 0.3631117399 0.209071973",
            1.768061705,
            1.794109746,
        ),
        (
            "2.168004551 1.534171134 1.527535961 0.1048149167 -0.05284585124 0.1945163472 0.2978578002",
            2.933312568,
            3.666272446,
        ),
    ],
}


@pytest.mark.parametrize("temperature, gamma", COURSE)
def test_three_steps_of_the_course_form(temperature, gamma):
    probe = Probe("onlineclr", temperature=temperature, gamma=gamma, form="course")
    for step, (answer, u_negative, u_positive) in enumerate(COURSE[temperature, gamma]):
        assert_close(probe.step(*oracle_set("A", step), ROWS), numbers(answer))
        # the course counts both directions, so its sums are twice ours
        shift_n, shift_p = SHIFTS[step]
        log_u = [math.log(u_negative) + shift_n / temperature, math.log(u_positive) + shift_p / (10 * temperature)]
        assert_close(probe.raw.log_u + math.log(2), log_u, rtol=0, atol=2e-8)


def test_two_steps_of_the_course_form_on_aligned_pairs():
    probe = Probe("onlineclr", temperature=0.07, form="course")
    answers = [
        "-0.4518637412 0.6869102333 0.8428660236 0.4360487783 0.3385928654 0.372317345 0.4894774449",
        "-0.6268755318 0.4124786435 0.5209324866 0.1459000193 0.1363916292 0.1755214509 0.3717218777",
    ]
    for step, answer in enumerate(answers):
        assert_close(probe.step(*oracle_set("C", step), torch.arange(5)), numbers(answer))


def test_the_default_form_starts_without_the_factor():
    x, y = oracle_set("A")
    default = build_loss("onlineclr", temperature=0.07, gamma=0.5).double()
    course = build_loss("onlineclr", temperature=0.07, gamma=0.5, form="course").double()
    assert_close(default(x, y, ROWS).total, course(x, y, ROWS).total / 2, rtol=1e-12)


def test_pair_weights_of_the_heat_map():
    weights = build_loss("onlineclr", temperature=0.07, gamma=1.0).pair_weights(*oracle_set("A"), ROWS)
    answer = [
        [-0.07068951093, 0.5145807799, 2.945920998e-04, 2.426918004e-11],
        [0.4851177157, -0.07150712414, 1.379343933e-09, 3.959545955e-13],
        [5.137675656e-09, 7.224844694e-11, -0.8005290873, 5.187951748e-06],
        [3.850885306e-13, 6.135221395e-13, 1.717766527e-06, -0.05727427764],
    ]
    assert_close(weights, answer, atol=1e-21)


def test_collapse_costs_nothing():
    assert build_loss("onlineclr").double()(COLLAPSED, COLLAPSED, ROWS).total.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_three_steps_against_a_naive_loop(seed):
    size, tau_n, tau_p, gamma = 5, 0.1, 0.3, 0.4
    loss = build_loss("onlineclr", temperature=tau_n, positive_temperature=tau_p, gamma=gamma).double()
    u_n = u_p = None
    for step in range(3):
        x, y = random_pairs(10 * seed + step)
        s = cosines(x, y)
        g_n = sum(math.exp(s[i][j] / tau_n) for i in range(size) for j in range(size) if i != j)
        g_p = sum(math.exp(-s[i][i] / tau_p) for i in range(size))
        u_n = g_n if u_n is None else (1 - gamma) * u_n + gamma * g_n
        u_p = g_p if u_p is None else (1 - gamma) * u_p + gamma * g_p
        weights = [
            [math.exp(s[i][j] / tau_n) / u_n if i != j else -math.exp(-s[i][i] / tau_p) / u_p for j in range(size)]
            for i in range(size)
        ]
        total = sum(weights[i][j] * s[i][j] for i in range(size) for j in range(size))
        assert_close(loss.pair_weights(x, y, torch.arange(size)), weights)
        assert_close(loss(x, y, torch.arange(size)).total, total)
        assert_close(loss.log_u.exp(), [u_n, u_p])


def test_first_step_is_the_gradient_of_the_objective():
    loss = build_loss("onlineclr", temperature=0.1, positive_temperature=0.5).double()
    similarity = (
        torch.rand(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    ).requires_grad_()
    surrogate = sum(loss.objective(similarity, **loss.blend(similarity.detach(), torch.arange(5))).values())
    negatives = similarity[~torch.eye(5, dtype=torch.bool)]
    objective = 0.1 * (negatives / 0.1).logsumexp(0) + 0.5 * (-similarity.diagonal() / 0.5).logsumexp(0)
    (actual,) = torch.autograd.grad(surrogate, similarity)
    (expected,) = torch.autograd.grad(objective, similarity)
    assert_close(actual, expected, rtol=1e-12)


def test_gamma_1_has_no_memory():
    used = build_loss("onlineclr", temperature=0.1, gamma=1.0).double()
    for seed in range(3):
        used(*random_pairs(seed), torch.arange(5))
    fresh = build_loss("onlineclr", temperature=0.1).double()
    assert_close(
        used(*random_pairs(7), torch.arange(5)).total, fresh(*random_pairs(7), torch.arange(5)).total, rtol=1e-12
    )


@pytest.mark.parametrize("temperature", [0.01, 1e-3])
def test_a_drop_in_similarity_does_not_overflow_and_is_forgotten(temperature):
    """One batch with negatives at cosine 1, then batches with negatives at -1: in float32, without a logarithm, inf."""
    loss = build_loss("onlineclr", temperature=temperature)
    same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    loss(same, same, torch.arange(2))
    loss(opposite, opposite, torch.arange(2))
    stale = loss.pair_weights(opposite, opposite, torch.arange(2))
    assert stale.isfinite().all() and stale.clamp(min=0).sum() < 1e-6  # negatives are ignored at first ...
    for _ in range(int(2 / temperature / math.log(5)) + 20):  # ... until u has decayed by (1 - gamma) a step
        loss(opposite, opposite, torch.arange(2))
    recovered = loss.pair_weights(opposite, opposite, torch.arange(2))
    assert recovered.clamp(min=0).sum().item() == pytest.approx(1, rel=1e-3)


def test_scale_clip_divides_by_temperature():
    batch = (*random_pairs(0), torch.arange(5))
    paper = build_loss("onlineclr", temperature=0.05).double()
    clip = build_loss("onlineclr", temperature=0.05, scale="clip").double()
    assert_close(clip.pair_weights(*batch), 20 * paper.pair_weights(*batch), rtol=1e-12)


@pytest.mark.parametrize(
    "option, value", [("gamma", 0), ("form", "eps"), ("positive_temperature", 0), ("scale", "big")]
)
def test_bad_options_are_refused(option, value):
    with pytest.raises(ClipeduError, match=option):
        build_loss("onlineclr", **{option: value})
