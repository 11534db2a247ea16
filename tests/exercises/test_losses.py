"""Each check of 02_losses passes the right answer, and names the famous error that a wrong one has made."""

import math

import pytest
import torch
from torch.nn.functional import softplus

from clipedu import exercises as ex


def eye(s):
    return torch.eye(len(s), dtype=s.dtype)


def clip_weights(s, tau, own=2.0, along=(1, 0)):
    logits = s / tau
    return (sum(logits.softmax(dim) for dim in along) - own * eye(s)) / (2 * len(s) * tau)


def by_autograd(s, tau):
    leaf = s.clone().requires_grad_()
    logits = leaf / tau
    own = torch.arange(len(s))
    loss = torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)
    return torch.autograd.grad(loss / 2, leaf)[0]


def dcl_weights(s, tau, mask=-math.inf):
    logits = s / tau
    logits = torch.where(eye(s).bool(), torch.tensor(mask, dtype=s.dtype), logits)
    return (logits.softmax(1) + logits.softmax(0) - 2 * eye(s)) / (2 * len(s) * tau)


def added_mask(s, tau):
    logits = s / tau + math.log(1e-45) * eye(s)
    return (logits.softmax(1) + logits.softmax(0) - 2 * eye(s)) / (2 * len(s) * tau)


def mask_after(s, tau):
    off = 1 - eye(s)
    both = (s / tau).softmax(1) * off + (s / tau).softmax(0) * off
    return (both - 2 * eye(s)) / (2 * len(s) * tau)


def remember(log_u, z, gamma):
    log_g = z.logsumexp(0) - math.log(len(z))
    if log_u == -math.inf:
        return log_g
    return torch.logaddexp(math.log(1 - gamma) + log_u, math.log(gamma) + log_g)


def naive_remember(log_u, z, gamma):
    return torch.log((1 - gamma) * log_u.exp() + gamma * z.exp().mean())


def one_side(s, log_u, tau, naive=False):
    """Element by element, as the formula has it."""
    size, w = len(s), torch.zeros_like(s)
    for i in range(size):
        for j in range(size):
            if i != j:
                z = (s[i, j] - s[i, i]) / tau
                push = (z.exp() / log_u[i].exp() if naive else (z - log_u[i]).exp()) / (size * (size - 1))
                w[i, j] += push
                w[i, i] -= push
    return w


def sogclr_weights(s, log_u, tau, naive=False):
    return one_side(s, log_u[0], tau, naive) + one_side(s.T, log_u[1], tau, naive).T


def silenced(h, b, tau):
    return torch.exp(h / tau - b[:, None]).mean(1) < 1e-8


def siglip(s, t, c, size=None):
    z = 2 * eye(s) - 1
    return softplus(-z * (t * s + c)).sum() / (size or len(s))


def copies(batch, same):
    return same * math.log(same) / batch


RIGHT = [
    (ex.check_clip_weights, clip_weights),
    (ex.check_clip_weights, by_autograd),
    (ex.check_clip_weights, lambda s, tau: clip_weights(s, tau).float()),
    (ex.check_dcl_weights, dcl_weights),
    (ex.check_copies, copies),
    (ex.check_copies, lambda batch, same: torch.tensor(copies(batch, same))),
    (ex.check_running_average, remember),
    (ex.check_sogclr_weights, sogclr_weights),
    (ex.check_silenced, silenced),
    (ex.check_siglip, siglip),
    (ex.check_siglip, lambda s, t, c: siglip(s, t, c).item()),
]


@pytest.mark.parametrize("check, answer", RIGHT)
def test_right_answers_pass(check, answer):
    verdict = check(answer)
    assert verdict.passed, verdict


def off(w):
    return w * (1 - eye(w))


FAMOUS = [
    (ex.check_clip_weights, lambda s, tau: -clip_weights(s, tau), "sign is turned"),
    (ex.check_clip_weights, lambda s, tau: tau * clip_weights(s, tau), "divide by the temperature"),
    (ex.check_clip_weights, lambda s, tau: 2 * clip_weights(s, tau), "2 B"),
    (ex.check_clip_weights, lambda s, tau: len(s) * clip_weights(s, tau), "mean over the batch"),
    (ex.check_clip_weights, lambda s, tau: clip_weights(s, tau, along=(1, 1)), "only pictures are queries"),
    (ex.check_clip_weights, lambda s, tau: clip_weights(s, tau, along=(0, 0)), "only captions are queries"),
    (ex.check_clip_weights, lambda s, tau: clip_weights(s, tau, own=1), "2 I, not I"),
    (ex.check_clip_weights, lambda s, tau: clip_weights(s, 1.0) / tau, "softmax is of S / tau"),
    (ex.check_clip_weights, lambda s, tau: clip_weights(s, tau).diagonal(), "return a matrix [5, 5]"),
    (ex.check_clip_weights, lambda s, tau: 1.0, "a float"),
    (ex.check_clip_weights, lambda s, tau: s, "entry ["),
    (ex.check_clip_weights, lambda s, tau: math.nan * s, "entry [0, 0] is nan"),
    (ex.check_dcl_weights, clip_weights, "still CLIP"),
    (ex.check_dcl_weights, lambda s, tau: dcl_weights(s, tau, 0.0), "exp(0) = 1"),
    (ex.check_dcl_weights, added_mask, "masks nothing"),
    (ex.check_dcl_weights, mask_after, "before the softmax"),
    (ex.check_dcl_weights, lambda s, tau: off(dcl_weights(s, tau)), "still pulled"),
    (ex.check_dcl_weights, lambda s, tau: -dcl_weights(s, tau), "sign is turned"),
    (ex.check_dcl_weights, lambda s, tau: 2 * len(s) * tau * dcl_weights(s, tau), "divide by 2 B tau"),
    (ex.check_copies, lambda batch, same: math.log(same), "others pay nothing"),
    (ex.check_copies, lambda batch, same: same * math.log(same), "sum over the batch"),
    (ex.check_copies, lambda batch, same: math.log(same) / batch, "each of them"),
    (ex.check_copies, lambda batch, same: copies(batch, same) / 2, "both directions"),
    (ex.check_copies, lambda batch, same: math.log(batch), "blind"),
    (ex.check_copies, lambda batch, same: same / batch, "share of pairs"),
    (ex.check_copies, lambda batch, same: 0, "perfect model"),
    (ex.check_running_average, naive_remember, "Stay in logarithms"),
    (ex.check_running_average, lambda u, z, c: (1 - c) * u + c * remember(u, z, 1 - 1e-12), "average the logarithms"),
    (ex.check_running_average, lambda u, z, c: remember(u, z, 1 - c), "newest batch"),
    (ex.check_running_average, lambda u, z, c: remember(u, z + math.log(7), c), "take off log K"),
    (ex.check_running_average, lambda u, z, c: remember(u, z, 1 - 1e-15), "this batch alone"),
    (ex.check_running_average, lambda u, z, c: remember(u, z.mean()[None], c), "mean of exp"),
    (ex.check_running_average, lambda u, z, c: remember(u, z, c).exp(), "return its logarithm"),
    (
        ex.check_running_average,
        lambda u, z, c: torch.logaddexp(math.log(1 - c) + u, math.log(c) + remember(u, z, 1 - 1e-15)),
        "log_u is -inf",
    ),
    (ex.check_sogclr_weights, lambda s, u, tau: one_side(s, u[0], tau), "Captions are anchors too"),
    (ex.check_sogclr_weights, lambda s, u, tau: one_side(s, u[0], tau) + one_side(s.T, u[1], tau), "transposed back"),
    (ex.check_sogclr_weights, lambda s, u, tau: sogclr_weights(s, u.flip(0), tau), "log_u[0] belongs"),
    (ex.check_sogclr_weights, lambda s, u, tau: (len(s) - 1) * sogclr_weights(s, u, tau), "B (B - 1)"),
    (
        ex.check_sogclr_weights,
        lambda s, u, tau: (len(s) - 1) / len(s) * sogclr_weights(s, u, tau),
        "B - 1 negatives, not B",
    ),
    (ex.check_sogclr_weights, lambda s, u, tau: len(s) * sogclr_weights(s, u, tau), "divide by B"),
    (ex.check_sogclr_weights, lambda s, u, tau: off(sogclr_weights(s, u, tau)), "diagonal cell"),
    (ex.check_sogclr_weights, lambda s, u, tau: -sogclr_weights(s, u, tau), "sign is turned"),
    (ex.check_sogclr_weights, lambda s, u, tau: sogclr_weights(s, u, tau) / tau, "no further division"),
    (ex.check_sogclr_weights, lambda s, u, tau: 2 * tau * dcl_weights(s, tau), "the log_u that is given"),
    (ex.check_sogclr_weights, lambda s, u, tau: sogclr_weights(s, u, tau, naive=True), "then take exp once"),
    (ex.check_silenced, lambda h, b, tau: silenced(h, 0 * b, tau), "left out b"),
    (ex.check_silenced, lambda h, b, tau: silenced(h, b, 1.0), "left out the temperature"),
    (ex.check_silenced, lambda h, b, tau: ~silenced(h, b, tau), "turned round"),
    (ex.check_silenced, lambda h, b, tau: silenced(h, -b, tau), "sign of b"),
    (ex.check_silenced, lambda h, b, tau: h.amax(1) < 0, "not only those"),
    (ex.check_silenced, lambda h, b, tau: 0 * b, "silenced."),
    (ex.check_silenced, lambda h, b, tau: 3, "tensor [N]"),
    (ex.check_siglip, lambda s, t, c: siglip(s, t, c, len(s) ** 2), "not by B^2"),
    (ex.check_siglip, lambda s, t, c: siglip(s, t, c, 1), "divide the sum by B"),
    (ex.check_siglip, lambda s, t, c: siglip(s, -t, -c), "sign is turned"),
    (ex.check_siglip, lambda s, t, c: -siglip(s, t, c), "*minus*"),
    (ex.check_siglip, lambda s, t, c: softplus(-(t * s + c)).sum() / len(s), "the right answer is no"),
    (ex.check_siglip, lambda s, t, c: softplus(-eye(s) * (t * s + c)).sum() / len(s), "log 2"),
    (ex.check_siglip, lambda s, t, c: siglip(s, t, -c), "bias is added"),
    (ex.check_siglip, lambda s, t, c: siglip(s, 1 / t, c), "t multiplies"),
    (ex.check_siglip, lambda s, t, c: softplus(-(t * s + c)).diagonal().sum() / len(s), "own pairs only"),
    (ex.check_siglip, lambda s, t, c: -torch.sigmoid((2 * eye(s) - 1) * (t * s + c)).sum() / len(s), "the logarithm"),
    (
        ex.check_siglip,
        lambda s, t, c: torch.log(1 + torch.exp(-(2 * eye(s) - 1) * (t * s + c))).sum() / len(s),
        "overflows",
    ),
]


@pytest.mark.parametrize("check, answer, lesson", FAMOUS)
def test_famous_errors_are_named(check, answer, lesson):
    verdict = check(answer)
    assert not verdict.passed and lesson in verdict.message, verdict


def test_the_learners_changes_in_place_do_not_reach_the_check():
    def in_place(s, tau):
        right = clip_weights(s, tau)
        s.zero_()
        return right

    assert ex.check_clip_weights(in_place).passed


def test_copies_cost_what_the_library_says():
    """A perfect model with equal captions, cold: the floor of `check_copies`."""
    from clipedu.toys.similarity_batch import examine

    s = torch.eye(8, dtype=torch.float64)
    s[:3, :3] = 1
    assert examine("clip", s, temperature=0.01).total == pytest.approx(copies(8, 3), rel=1e-9)
