import math

import pytest
import torch

from clipedu.losses import build_loss
from clipedu.utils.errors import ClipeduError

from .oracle import COLLAPSED, ROWS, Dot, Probe, assert_close, cosines, numbers, oracle_set, random_pairs

IMAGE_ROWS = [[3, 0, 7, 5], [5, 3, 1, 7], [0, 5, 7, 2]]
TEXT_ROWS = [[2, 6, 1, 4], [1, 2, 0, 6], [6, 4, 1, 3]]


def forget_first_visits(loss):
    """What the course's code does after epoch 0: a row that was never seen counts as seen with an average of 0."""
    if loss.form == "course":
        loss.s.nan_to_num_(nan=0.0)
    else:
        loss.log_u[loss.log_u == -math.inf] = -1e30


ONE_INDEX = {
    # form, temperature, are rows first met after the first batch treated as the course does
    ("course", 0.07, True): [
        "0.3151373503 0.8770591387 1.017727215 -0.6077214663 0.4328135332",
        "1.909145525 2.002571279 2.003842352 -0.2814011494 2.356055729",
        "3.142409566 2.163407264 2.117291386 0.3827557576 0.8189204431",
    ],
    ("course", 0.01, True): [
        "0.736498967 0.6611375706 0.9729416354 -0.8662864887 0.6443460794",
        "2.218921675 1.881124138 1.907782574 -0.6455993382 1.871629244",
        "3.261823724 2.155106665 2.113683905 0.3071489132 0.6757979344",
    ],
    ("log", 0.07, True): [
        "0.3124705128 0.8790461119 1.018485704 -0.6054428354 0.4325196126",
        "1.90912598 2.002576042 2.003856665 -0.2813803494 2.356090397",
        "3.142382376 2.163410509 2.117297689 0.3827649984 0.8189584888",
    ],
    ("log", 0.07, False): [
        "0.3124705128 0.8790461119 1.018485704 -0.6054428354 0.4325196126",
        "1.940571626 1.963718684 1.955899971 -0.3452750665 2.300350439",
        "2.96386825 2.04443279 2.000367664 0.3286066965 0.6738854149",
    ],
    ("log", 0.01, False): [
        "0.3131918511 0.8797537803 1.019291667 -0.6086665147 0.4321580819",
        "1.951184792 2.012702544 1.983026678 -0.342815989 2.37034543",
        "3.083283648 2.035823603 2.004009039 0.2530006226 0.530769684",
    ],
}


@pytest.mark.parametrize("form, temperature, forget", ONE_INDEX)
def test_three_steps_with_one_index(form, temperature, forget):
    probe = Probe("sogclr", temperature=temperature, num_samples=8, form=form)
    for step, answer in enumerate(ONE_INDEX[form, temperature, forget]):
        measured = probe.step(*oracle_set("A", step), torch.tensor(IMAGE_ROWS[step]))
        assert_close(measured[:5], numbers(answer))
        if forget and step == 0:
            for loss in probe.both:
                forget_first_visits(loss)


def test_log_averages_after_three_steps():
    loss = build_loss("sogclr", temperature=0.07, num_samples=8).double()
    for step in range(3):
        loss(*oracle_set("A", step), torch.tensor(IMAGE_ROWS[step]))
        if step == 0:
            forget_first_visits(loss)
    image = "26.42375359 -2.782804995 15.91385685 25.28515541 -10.07022855 25.67589484"
    text = "25.9077111 -7.047909979 22.2458769 26.23099277 2.209698889 25.62378472"
    assert_close(loss.log_u[:, [0, 1, 2, 3, 5, 7]], [numbers(image), numbers(text)])
    assert (loss.log_u[:, [4, 6]] == -1e30).all()


SEPARATE = {
    (0.07, 0.8): [
        "0.3151373503 0.8770591387 1.017727215 -0.6077214663 0.4328135332 0.4331755937 0.6273168385",
        "1.801997301 1.753457128 1.862862049 -0.1845214176 1.741288641 0.680122252 0.616256462",
        "2.926816995 2.224959939 2.160151411 0.1399511786 0.9166061559 0.6843434171 0.7362629364",
    ],
    (0.01, 0.8): [
        "0.736498967 0.6611375706 0.9729416354 -0.8662864887 0.6443460794 0.3287506304 0.9489425524",
        "2.106464673 1.620899938 1.833479832 -0.5483488411 1.253232357 0.6363465726 0.3766764299",
        "3.261823724 2.155106665 2.113683905 0.3071489132 0.6757979344 0.6983398926 0.6160026881",
    ],
    (0.07, 0.1): [
        None,
        "14.49924279 14.00243018 14.85201318 -1.572621998 13.73641783 5.429950519 4.758600257",
        "25.21736596 17.28126233 16.83402687 2.351424976 5.944864662 5.544194342 4.917149922",
    ],
}


@pytest.mark.parametrize("temperature, gamma", SEPARATE)
def test_three_steps_of_the_course_form_with_separate_image_and_text_rows(temperature, gamma):
    """The course numbers images and texts differently: before each step the test loads the rows of each side."""
    probe = Probe("sogclr", temperature=temperature, num_samples=4, gamma=gamma, form="course")
    s, b = torch.full((2, 8), math.nan).double(), torch.zeros(2, 8).double()
    for step, answer in enumerate(SEPARATE[temperature, gamma]):
        image, text = torch.tensor(IMAGE_ROWS[step]), torch.tensor(TEXT_ROWS[step])
        for loss in probe.both:
            loss.s.copy_(torch.stack([s[0, image], s[1, text]]))
            loss.b.copy_(torch.stack([b[0, image], b[1, text]]))
        measured = probe.step(*oracle_set("A", step), ROWS)
        if answer:
            assert_close(measured, numbers(answer))
        s[0, image], s[1, text] = probe.raw.s
        b[0, image], b[1, text] = probe.raw.b
        s.nan_to_num_(nan=0.0)
    if (temperature, gamma) == (0.07, 0.8):
        s_image = "0.471089373 0.06186473349 0.2666666699 0.2698022432 0 4.232094027e-05 0 0.2671656787"
        s_text = "8.692237556e-04 0.2666946113 0.2666666792 0.2666669653 8.077301647e-06 0 0.2672870136 0"
        b_image = "27.17646104 0 17.23561268 26.59522143 0 0 0 26.99578113"
        b_text = "0 26.94407752 27.55274856 23.56763162 0 0 27.22816465 0"
        assert_close(s, [numbers(s_image), numbers(s_text)])
        assert_close(b, [numbers(b_image), numbers(b_text)])


@pytest.mark.parametrize(
    "form, temperature, answers",
    [
        ("course", 0.07, ["-0.9635411539 0.6679658266 0.8815975374", "-0.6975088839 0.6246210696 0.7814797712"]),
        ("log", 0.07, ["-0.963720683 0.6680815991 0.8816920415", "-0.6976762144 0.6247123427 0.7815729397"]),
        (
            "course",
            0.01,
            ["-2.816864732e-06 1.479136284e-05 1.305632330e-05", "-2.575113299e-11 9.227761602e-11 8.505698955e-11"],
        ),
        ("log", 0.01, ["-0.9541613136 0.7561384544 0.9224620274", "-0.3667281645 0.6107145305 0.6749543329"]),
    ],
)
def test_aligned_pairs_keep_their_gradient_in_the_log_form_only(form, temperature, answers):
    probe = Probe("sogclr", temperature=temperature, num_samples=5, form=form)
    for step, answer in enumerate(answers):
        assert_close(probe.step(*oracle_set("C", step), torch.arange(5))[:3], numbers(answer), atol=1e-18)


def test_libauc_counts_it_half_of_b_minus_1_times():
    """Its GCLoss_v2 does not divide the weights by B - 1 a second time, and takes the mean of both sides."""
    value, image, *_ = Probe("sogclr", temperature=0.07, num_samples=6).step(*oracle_set("A6"), torch.arange(6))
    assert_close([2.5 * value, 2.5 * image], [4.131339472, 2.865850209])


def test_pair_weights_of_the_heat_map():
    weights = build_loss("sogclr", temperature=0.07, num_samples=4).pair_weights(*oracle_set("A"), ROWS)
    answer = [
        [-0.5, 0.4998569595, 0.2486925843, 1.169503418e-06],
        [0.4999999966, -0.5, 1.164473556e-06, 1.908060090e-08],
        [2.473315381e-04, 3.478091991e-06, -0.5, 0.4997480045],
        [5.604511210e-08, 8.929092244e-08, 0.2514491471, -0.5],
    ]
    assert_close(weights, answer)


def test_collapse_costs_nothing():
    assert build_loss("sogclr", num_samples=4)(COLLAPSED, COLLAPSED, ROWS).total.item() == 0


@pytest.mark.parametrize("seed", range(4))
def test_three_steps_against_a_naive_loop(seed):
    size, tau, gamma = 5, 0.1, 0.3
    loss = build_loss("sogclr", temperature=tau, gamma=gamma, num_samples=9).double()
    u = [dict(), dict()]  # plain averages of images and of texts, by row
    for step in range(3):
        x, y = random_pairs(10 * seed + step)
        index = torch.randperm(9, generator=torch.Generator().manual_seed(10 * seed + step))[:size]
        s = cosines(x, y)
        total, weights = 0.0, [[0.0] * size for _ in range(size)]
        for side in range(2):
            for i in range(size):
                h = {j: (s[i][j] if side == 0 else s[j][i]) - s[i][i] for j in range(size) if j != i}
                g = sum(math.exp(h[j] / tau) for j in h) / (size - 1)
                row = index[i].item()
                u[side][row] = (1 - gamma) * u[side][row] + gamma * g if row in u[side] else g
                for j in h:
                    share = math.exp(h[j] / tau) / u[side][row] / (size - 1) / size
                    total += share * h[j]
                    weights[i][i] -= share
                    weights[i if side == 0 else j][j if side == 0 else i] += share
        assert_close(loss.pair_weights(x, y, index), weights, rtol=1e-9)
        assert_close(loss(x, y, index).total, total, rtol=1e-9)
        for side in range(2):
            for row, value in u[side].items():
                assert_close(loss.log_u[side, row].exp(), value, rtol=1e-9)
    assert (loss.log_u == -math.inf).sum() == 18 - len(u[0]) - len(u[1])


def test_first_visit_is_the_gradient_of_the_global_objective():
    x, y = random_pairs(2)
    x, y = x.requires_grad_(), y.requires_grad_()
    tau = 0.1
    build_loss("sogclr", temperature=tau, num_samples=5, geometry=Dot())(x, y, torch.arange(5)).total.backward()
    h = x @ y.T - (x * y).sum(1)[:, None], y @ x.T - (x * y).sum(1)[:, None]
    mask = torch.eye(5, dtype=torch.bool)
    objective = sum(tau * (side / tau).masked_fill(mask, -math.inf).logsumexp(1).mean() for side in h)
    for grad, expected in zip((x.grad, y.grad), torch.autograd.grad(objective, (x, y)), strict=True):
        assert_close(grad, expected, rtol=1e-10)


@pytest.mark.parametrize("form", ["log", "course"])
def test_gamma_1_has_no_memory(form):
    index = torch.arange(5)
    used = build_loss("sogclr", temperature=0.1, gamma=1.0, num_samples=5, form=form).double()
    for seed in range(3):
        used(*random_pairs(seed), index)
    if form == "course":
        used.eps = 0.0  # the floor itself moves with the shift
    fresh = build_loss("sogclr", temperature=0.1, num_samples=5).double()
    assert_close(used(*random_pairs(7), index).total, fresh(*random_pairs(7), index).total, rtol=1e-12)


def test_without_eps_the_shift_does_not_matter():
    index = torch.arange(5)
    log = build_loss("sogclr", temperature=0.05, num_samples=5).double()
    course = build_loss("sogclr", temperature=0.05, num_samples=5, form="course").double()
    course.eps = 0.0
    for seed in range(4):
        x, y = random_pairs(seed)
        assert_close(log.pair_weights(x, y, index), course.pair_weights(x, y, index), rtol=1e-10)
        assert_close(log(x, y, index).total, course(x, y, index).total, rtol=1e-10)


def test_every_anchor_has_the_same_push_at_its_first_visit():
    weights = build_loss("sogclr", temperature=0.01, num_samples=8).pair_weights(
        *random_pairs(5, size=8), torch.arange(8)
    )
    assert_close(weights.clamp(min=0).sum(), 2.0, rtol=1e-12)
    assert_close(weights.diagonal(), [-2 / 8] * 8, rtol=1e-12)


def one_margin(angle: float):
    """Two pairs at right angles to each other, and each text turned by `angle` past 45 degrees, to the wrong image."""
    x = torch.eye(2)
    t = math.pi / 4 + angle
    return x, torch.tensor([[math.cos(t), math.sin(t)], [math.sin(t), math.cos(t)]])


def test_one_bad_batch_silences_an_anchor_for_good_in_the_course_form_only():
    """A margin of 0.4 once (b = 40), then 40 visits that are still wrong by 0.1: who still pushes?"""
    push = {}
    for form in ("log", "course"):
        loss = build_loss("sogclr", temperature=0.01, num_samples=2, form=form)
        loss(*one_margin(math.asin(0.4 / math.sqrt(2))), torch.arange(2))
        for _ in range(40):
            loss(*one_margin(math.asin(0.1 / math.sqrt(2))), torch.arange(2))
        push[form] = loss.pair_weights(*one_margin(math.asin(0.1 / math.sqrt(2))), torch.arange(2)).clamp(min=0).sum()
    assert push["log"] == pytest.approx(2.0, rel=1e-3)
    assert push["course"] < 1e-3


def test_small_temperature_does_not_overflow():
    loss = build_loss("sogclr", temperature=1e-3, num_samples=16)
    index = torch.arange(16)
    for seed in range(4):
        x, y = (z.float().requires_grad_() for z in random_pairs(seed, size=16, dim=4))
        loss(x, y, index).total.backward()
        assert x.grad.isfinite().all() and y.grad.isfinite().all() and x.grad.norm() > 0
    assert loss.log_u.isfinite().all() and loss.log_u.max() > 100  # far beyond float32's e^88


def test_scale_clip_divides_by_two_temperatures():
    batch = (*random_pairs(0), torch.arange(5))
    paper = build_loss("sogclr", temperature=0.05, num_samples=5).double()
    clip = build_loss("sogclr", temperature=0.05, num_samples=5, scale="clip").double()
    assert_close(clip.pair_weights(*batch), 10 * paper.pair_weights(*batch), rtol=1e-12)
    assert_close(clip(*batch).total, 10 * paper(*batch).total, rtol=1e-12)


@pytest.mark.parametrize("row", [-1, 5])
def test_unknown_row_is_refused_and_nothing_is_stored(row):
    loss = build_loss("sogclr", num_samples=5)
    index = torch.tensor([0, 1, row, 3])
    with pytest.raises(ClipeduError, match=f"row {row}, but num_samples=5 allows 0 to 4"):
        loss(*oracle_set("A"), index)
    with pytest.raises(ClipeduError, match=f"row {row}"):
        loss.pair_weights(*oracle_set("A"), index)
    assert (loss.log_u == -math.inf).all()


@pytest.mark.parametrize("given", [None, 0, -3, 2.5, True])
def test_number_of_samples_is_needed(given):
    with pytest.raises(ClipeduError, match=r"sogclr keeps averages.*num_samples=len\(pairs\)"):
        build_loss("sogclr", num_samples=given)


def test_a_row_twice_in_a_batch_keeps_the_larger_average():
    once = build_loss("sogclr", temperature=0.1, num_samples=4).double()
    twice = build_loss("sogclr", temperature=0.1, num_samples=4).double()
    once(*oracle_set("A"), ROWS)
    twice(*oracle_set("A"), torch.tensor([0, 0, 2, 3]))
    assert_close(twice.log_u[:, 0], once.log_u[:, :2].amax(1))


@pytest.mark.parametrize("option, value", [("gamma", 0), ("gamma", 1.1), ("form", "eps"), ("scale", "big")])
def test_bad_options_are_refused(option, value):
    with pytest.raises(ClipeduError, match=option):
        build_loss("sogclr", num_samples=4, **{option: value})
