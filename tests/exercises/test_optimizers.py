"""Each check of 04_optimizers passes the right answer, and names the famous error that a wrong one has made."""

import math

import pytest
import torch
from torch import nn

from clipedu.exercises import optimizers as ex


def sgd(w, v, g, lr, momentum, weight_decay):
    v = momentum * v + g + weight_decay * w
    return w - lr * v, v


def by_torch(kind, **settings):
    """Torch's own step as an answer: its state is written into a fresh optimizer before each step."""

    def step(w, *state_and_rest):
        count = 1 if kind is torch.optim.SGD else 2
        state, rest = state_and_rest[:count], state_and_rest[count:]
        p = nn.Parameter(w.clone())
        if kind is torch.optim.SGD:
            g, lr, momentum, decay = rest
            optimizer = kind([p], lr=lr, momentum=momentum, weight_decay=decay)
            optimizer.state[p] = {"momentum_buffer": state[0].clone()}
        else:
            g, t, lr, b1, b2, eps, *decay = rest
            optimizer = kind([p], lr=lr, betas=(b1, b2), eps=eps, weight_decay=decay[0] if decay else 0.0)
            names = ("exp_avg", "exp_avg_sq")
            kept = {name: x.clone() for name, x in zip(names, state, strict=True)}
            optimizer.state[p] = {"step": torch.tensor(float(t - 1)), **kept}
        p.grad = g.clone()
        optimizer.step()
        after = optimizer.state[p]
        if kind is torch.optim.SGD:
            return p.detach(), after["momentum_buffer"]
        return p.detach(), after["exp_avg"], after["exp_avg_sq"]

    return step


def adam(w, m, v, g, t, lr, b1, b2, eps, divide=None):
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    a, b = m / (1 - b1**t), v / (1 - b2**t)
    return w - lr * (divide(a, b, eps) if divide else a / (b.sqrt() + eps)), m, v


def adam_with(divide):
    return lambda *given: adam(*given, divide=divide)


def uncorrected(w, m, v, g, t, lr, b1, b2, eps):
    m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
    return w - lr * m / (v.sqrt() + eps), m, v


def adamw(w, m, v, g, t, lr, b1, b2, eps, decay):
    return adam((1 - lr * decay) * w, m, v, g, t, lr, b1, b2, eps)


def coupled(w, m, v, g, t, lr, b1, b2, eps, decay):
    return adam(w, m, v, g + decay * w, t, lr, b1, b2, eps)


def shrunk_last(w, m, v, g, t, lr, b1, b2, eps, decay):
    w, m, v = adam(w, m, v, g, t, lr, b1, b2, eps)
    return (1 - lr * decay) * w, m, v


def lion(w, m, g, lr, b1, b2, decay):
    return (1 - lr * decay) * w - lr * torch.sign(b1 * m + (1 - b1) * g), b2 * m + (1 - b2) * g


def lion_renewed(w, m, g, lr, b1, b2, decay):
    m = b2 * m + (1 - b2) * g
    return (1 - lr * decay) * w - lr * torch.sign(b1 * m + (1 - b1) * g), m


def by_axes(model):
    return [name for name, p in model.named_parameters() if p.requires_grad and p.ndim >= 2]


def decides(w, g, decay):
    return (decay * w).abs() > g.abs()


RIGHT = [
    (ex.check_sgd, sgd),
    (ex.check_sgd, by_torch(torch.optim.SGD)),
    (ex.check_adam, adam),
    (ex.check_adam, by_torch(torch.optim.Adam)),
    (ex.check_adamw, adamw),
    (ex.check_adamw, by_torch(torch.optim.AdamW)),
    (ex.check_decides, decides),
    (ex.check_lion, lion),
    (ex.check_decayed, by_axes),
    (ex.check_decayed, lambda model: set(by_axes(model))),
    (ex.check_corrected, lambda lr, lr_max, decay: decay * lr / lr_max),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_the_right_answer_passes(check, answer):
    verdict = check(answer)
    assert verdict.passed, verdict.message


def test_timms_lion_is_the_one_that_passes():
    from timm.optim import Lion

    def step(w, m, g, lr, b1, b2, decay):
        p = nn.Parameter(w.clone())
        optimizer = Lion([p], lr=lr, betas=(b1, b2), weight_decay=decay)
        optimizer.state[p] = {"exp_avg": m.clone()}
        p.grad = g.clone()
        optimizer.step()
        return p.detach(), optimizer.state[p]["exp_avg"]

    assert ex.check_lion(step).passed


WRONG = [
    (ex.check_sgd, lambda w, v, g, lr, mu, d: sgd(w, v, g, lr, mu, 0.0), "weight_decay is not used"),
    (
        ex.check_sgd,
        lambda w, v, g, lr, mu, d: (
            w - lr * (mu * v + (1 - mu) * (g + d * w)),
            mu * v + (1 - mu) * (g + d * w),
        ),
        "adds the whole new gradient",
    ),
    (
        ex.check_sgd,
        lambda w, v, g, lr, mu, d: (w - lr * (g + d * w + mu * sgd(w, v, g, lr, mu, d)[1]), sgd(w, v, g, lr, mu, d)[1]),
        "Nesterov",
    ),
    (
        ex.check_sgd,
        lambda w, v, g, lr, mu, d: ((1 - lr * d) * w - lr * (mu * v + g), mu * v + g),
        "decay is decoupled",
    ),
    (
        ex.check_sgd,
        lambda w, v, g, lr, mu, d: (w - mu * v - lr * (g + d * w), mu * v + lr * (g + d * w)),
        "into v (under a schedule",
    ),
    (ex.check_sgd, lambda w, v, g, lr, mu, d: (w + lr * (mu * v + g + d * w), mu * v + g + d * w), "uphill"),
    (ex.check_sgd, lambda w, v, g, lr, mu, d: (w - lr * (g + d * w), g + d * w), "without the past"),
    (ex.check_sgd, lambda w, v, g, lr, mu, d: sgd(w, v, g, lr, mu, d)[0], "2 tensors in the order"),
    (ex.check_sgd, lambda w, v, g, lr, mu, d: (1.0, v), "a tensor of the shape of w"),
    (ex.check_sgd, lambda w, v, g, lr, mu, d: (w - lr * g, v), "step 1: entry "),
    (ex.check_adam, uncorrected, "divide m by 1 - b1^t and v by"),
    (ex.check_adam, adam_with(lambda m, v, eps: m / (v + eps)), "no square root"),
    (ex.check_adam, adam_with(lambda m, v, eps: m / (v + eps).sqrt()), "outside the root"),
    (ex.check_adam, adam_with(lambda m, v, eps: m / v.sqrt() + eps), "brackets"),
    (ex.check_adam, adam_with(lambda m, v, eps: m / v.sqrt()), "eps is not used"),
    (ex.check_adam, adam_with(lambda m, v, eps: -m / (v.sqrt() + eps)), "uphill"),
    (ex.check_adam, lambda w, m, v, g, t, *rest: adam(w, m, v, g, t + 1, *rest), "t is 1 at the first step"),
    (ex.check_adam, lambda w, m, v, g, t, lr, b1, b2, eps: adam(w, m, v, g, t, lr, b2, b1, eps), "changed places"),
    (ex.check_adamw, lambda *a: adam(*a[:-1]), "weight_decay is not used"),
    (ex.check_adamw, coupled, "Adam with L2"),
    (ex.check_adamw, lambda *a: coupled((1 - a[5] * a[9]) * a[0], *a[1:]), "should be"),
    (ex.check_adamw, shrunk_last, "shrink *first*"),
    (ex.check_adamw, lambda *a: adam((1 - a[9]) * a[0], *a[1:-1]), "multiply by lr too"),
    (ex.check_adamw, lambda *a: adamw(*a[:-1], -a[-1]), "wrong sign"),
    (ex.check_decides, lambda w, g, d: d * w > g, "absolute values"),
    (ex.check_decides, lambda w, g, d: w.abs() > g.abs(), "left out the weight decay"),
    (ex.check_decides, lambda w, g, d: ~decides(w, g, d), "turned round"),
    (ex.check_decides, lambda w, g, d: (g + d * w).sign() != g.sign(), "point the same way"),
    (ex.check_decides, lambda w, g, d: decides(w, g, d).any(), "one truth value for each weight"),
    (ex.check_decides, lambda w, g, d: w > 0, "weights are judged wrongly"),
    (ex.check_lion, lion_renewed, "with the *old* m"),
    (ex.check_lion, lambda w, m, g, lr, b1, b2, d: lion(w, m, g, lr, b1, b1, d), "b1 for both"),
    (ex.check_lion, lambda w, m, g, lr, b1, b2, d: lion(w, m, g, lr, b2, b1, d), "changed places"),
    (ex.check_lion, lambda w, m, g, lr, b1, b2, d: lion(w, m, g, lr, b1, b2, 0.0), "weight_decay is not used"),
    (ex.check_lion, lambda w, m, g, lr, b1, b2, d: lion(w, m, g + d * w, lr, b1, b2, 0.0), "decoupled"),
    (
        ex.check_lion,
        lambda w, m, g, lr, b1, b2, d: ((1 - lr * d) * w - lr * (b1 * m + (1 - b1) * g), b2 * m + (1 - b2) * g),
        "no sign",
    ),
    (
        ex.check_lion,
        lambda w, m, g, lr, b1, b2, d: (
            (1 - lr * d) * w - lr * torch.sign(b2 * m + (1 - b2) * g),
            b2 * m + (1 - b2) * g,
        ),
        "sign of the new m",
    ),
    (
        ex.check_decayed,
        lambda model: [n for n, _ in model.named_parameters() if n.endswith("weight")],
        "is missing: go by",
    ),
    (ex.check_decayed, lambda model: [n for n in by_axes(model) if n != "qkv_w"], "'qkv_w' [12, 4] is missing"),
    (
        ex.check_decayed,
        lambda model: [n for n, p in model.named_parameters() if p.requires_grad],
        "fewer than two axes",
    ),
    (ex.check_decayed, lambda model: [n for n, p in model.named_parameters() if p.ndim > 1], "is frozen"),
    (ex.check_decayed, lambda model: [p for p in model.parameters() if p.ndim > 1], "a list of names"),
    (ex.check_decayed, lambda model: "qkv_w", "a list of names"),
    (ex.check_decayed, lambda model: [*by_axes(model), "module"], "'module' is no parameter"),
    (ex.check_corrected, lambda lr, top, d: lr * d * lr / top, "that is the shrink"),
    (ex.check_corrected, lambda lr, top, d: d * (lr / top) ** 2, "lr^3"),
    (ex.check_corrected, lambda lr, top, d: d * top / lr, "turned round"),
    (ex.check_corrected, lambda lr, top, d: d, "that lambda is constant"),
    (ex.check_corrected, lambda lr, top, d: d * lr, "in units of the peak"),
    (ex.check_corrected, lambda lr, top, d: lr / top, "weight_decay is missing"),
    (ex.check_corrected, lambda lr, top, d: d * math.sqrt(lr / top), "no root"),
]


@pytest.mark.parametrize(("check", "answer", "says"), WRONG)
def test_famous_errors_are_named(check, answer, says):
    verdict = check(answer)
    assert not verdict.passed and says in verdict.message, verdict.message


def test_what_is_returned_is_not_the_checks_own():
    """An answer that works in place is right too: each call gets copies."""

    def in_place(w, v, g, lr, momentum, weight_decay):
        v.mul_(momentum).add_(g).add_(w, alpha=weight_decay)
        w.sub_(lr * v)
        return w, v

    assert ex.check_sgd(in_place).passed
