"""Checks of the exercises in 04_optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.exercises.base import NotYet, compare, exercise

LR, MU, B1, B2, DECAY, SIZE = 0.1, 0.9, 0.9, 0.99, 0.3, 12


@exercise
def check_sgd(sgd_step: Callable[..., Any]) -> str:
    """Check `sgd_step(w, v, g, lr, momentum, weight_decay)` -> (w, v).

    It is torch's SGD with L2 and momentum, v = 0 before the first step.
    """

    def right(w, v, g, t):
        v = MU * v + g + DECAY * w
        return w - LR * v, v

    def no_decay(w, v, g, t):
        v = MU * v + g
        return w - LR * v, v

    def damped(w, v, g, t):
        v = MU * v + (1 - MU) * (g + DECAY * w)
        return w - LR * v, v

    def nesterov(w, v, g, t):
        d = g + DECAY * w
        v = MU * v + d
        return w - LR * (d + MU * v), v

    def decoupled(w, v, g, t):
        v = MU * v + g
        return (1 - LR * DECAY) * w - LR * v, v

    def rate_inside(w, v, g, t):
        v = MU * v + LR * (g + DECAY * w)
        return w - v, v

    wrong = {
        "weight_decay is not used: here it is L2, it goes to the gradient, g + weight_decay * w": no_decay,
        "torch's momentum adds the whole new gradient, v = momentum * v + d. With 1 - momentum in front it is Adam's m": damped,
        "that is Nesterov's step, one gradient ahead: here the step is along v itself": nesterov,
        "that decay is decoupled: here weight_decay * w is a part of the gradient, and so of v": decoupled,
        "the learning rate multiplies the step, not what goes into v (under a schedule the two differ)": rate_inside,
        "uphill: w - lr * v": lambda w, v, g, t: (w + LR * (MU * v + g + DECAY * w), MU * v + g + DECAY * w),
        "v is never used: without the past, momentum does nothing": lambda w, v, g, t: (
            w - LR * (g + DECAY * w),
            g + DECAY * w,
        ),
    }
    _compare_walk(lambda w, v, g, t: sgd_step(w, v, g, LR, MU, DECAY), right, wrong, states=1)
    return "it is torch.optim.SGD, to the last digits. In the long run a steady gradient moves w by lr / (1 - momentum) of it."


@exercise
def check_adam(adam_step: Callable[..., Any]) -> str:
    """Check `adam_step(w, m, v, g, t, lr, b1, b2, eps)` -> (w, m, v).

    It is Adam without decay, t = 1 at the first step.
    """
    eps = 1e-2  # large, so that its place shows

    def adam(m_hat=True, v_hat=True, shift=0, divide=None, square=True, first=B1, second=B2):
        divide = divide or (lambda m, v: m / (v.sqrt() + eps))

        def step(w, m, v, g, t):
            m = first * m + (1 - first) * g
            v = second * v + (1 - second) * (g * g if square else g.abs())
            a, b = 1 - first ** (t + shift), 1 - second ** (t + shift)
            return w - LR * divide(m / a if m_hat and a else m, v / b if v_hat and b else v), m, v

        return step

    wrong = {
        "the averages start at 0 and are too small at first: divide m by 1 - b1^t and v by 1 - b2^t": adam(
            False, False
        ),
        "m is corrected for its start at 0, v is not: divide v by 1 - b2^t": adam(v_hat=False),
        "v is corrected for its start at 0, m is not: divide m by 1 - b1^t": adam(m_hat=False),
        "t is 1 at the first step already: b1^t, not b1^(t + 1)": adam(shift=1),
        "b1 and b2 have changed places": adam(first=B2, second=B1),
        "v is the average of the *squared* gradient": adam(square=False),
        "there is no square root under m: v is a mean square": adam(divide=lambda m, v: m / (v + eps)),
        "eps stands outside the root: sqrt(v) + eps": adam(divide=lambda m, v: m / (v + eps).sqrt()),
        "a missing pair of brackets, as in a textbook: m / sqrt(v) + eps adds eps to every weight. m / (sqrt(v) + eps)": adam(
            divide=lambda m, v: m / v.sqrt() + eps
        ),
        "eps is not used: it keeps the step small where v is nearly 0": adam(divide=lambda m, v: m / v.sqrt()),
        "uphill: w - lr * ...": adam(divide=lambda m, v: -m / (v.sqrt() + eps)),
    }
    _compare_walk(lambda w, m, v, g, t: adam_step(w, m, v, g, t, LR, B1, B2, eps), adam(), wrong, states=2)
    big = torch.tensor([3e-5, -2e4, 5.0]).double()
    zero = torch.zeros(3).double()
    first = adam_step(zero.clone(), zero.clone(), zero.clone(), big, 1, LR, B1, B2, 1e-12)[0]
    if not torch.allclose(first, -LR * big.sign(), rtol=1e-4):
        raise NotYet(f"the first step should be -lr * sign(g), and for g = {big.tolist()} it is {first.tolist()}.")
    return "and its first step is lr * sign(g): from 0.00003 to 20000, each entry of g moves its weight by the same."


@exercise
def check_adamw(adamw_step: Callable[..., Any]) -> str:
    """Check `adamw_step`: shrink w, then take Adam's step.

    Its signature is `adamw_step(w, m, v, g, t, lr, b1, b2, eps, weight_decay)` -> (w, m, v).
    """
    eps = 1e-8

    def adamw(before=lambda w: (1 - LR * DECAY) * w, coupled=0.0, after=lambda w: w):
        def step(w, m, v, g, t):
            g = g + coupled * w
            m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
            return after(before(w) - LR * (m / (1 - B1**t)) / ((v / (1 - B2**t)).sqrt() + eps)), m, v

        return step

    wrong = {
        "that is Adam: weight_decay is not used": adamw(before=lambda w: w),
        "that is Adam with L2: the decay went through m and sqrt(v). AdamW's gradient stays as it is": adamw(
            lambda w: w, coupled=DECAY
        ),
        "decayed twice: once in the gradient and once outside. Only outside": adamw(coupled=DECAY),
        "the shrink is lr * weight_decay: multiply by lr too, or a schedule cannot end it": adamw(
            lambda w: (1 - DECAY) * w
        ),
        "shrink *first*, then step: you took the share of the weight that had moved already": adamw(
            lambda w: w, after=lambda w: (1 - LR * DECAY) * w
        ),
        "the decay has the wrong sign: w grows": adamw(lambda w: (1 + LR * DECAY) * w),
    }
    _compare_walk(lambda w, m, v, g, t: adamw_step(w, m, v, g, t, LR, B1, B2, eps, DECAY), adamw(), wrong, states=2)
    return "decay and gradient no longer meet: a hundred times smaller loss gives the same walk."


@exercise
def check_decides(decay_decides: Callable[[Tensor, Tensor, float], Tensor]) -> str:
    """Check `decay_decides(w [N], g [N], weight_decay)`.

    It returns where L2 is larger than the gradient, bool [N].
    """
    noise = torch.Generator().manual_seed(0)
    for scale, decay in ((1.0, 0.5), (0.02, 0.02), (0.1, 2.0)):
        w = torch.randn(40, generator=noise).double()
        g = scale * torch.randn(40, generator=noise).double()
        answer = decay_decides(w.clone(), g.clone(), decay)
        right = (decay * w).abs() > g.abs()
        wrong = {
            "sizes are compared: take absolute values": decay * w > g,
            "you left out the weight decay: what is added to g is weight_decay * w": w.abs() > g.abs(),
            "turned round: decay decides where it is *larger* than the gradient": ~right,
            "where both point the same way and decay is larger, it decides too; you count only where the sign turns": (
                (g + decay * w).sign() != g.sign()
            ),
        }
        _compare_mask(answer, right, wrong, f"gradients of about {scale:g} and weight decay {decay:g}")
    return "there Adam steps by lr * sign(w) towards 0, as fast for a decay of 0.001 as for one of 10."


@exercise
def check_lion(lion_step: Callable[..., Any]) -> str:
    """Check `lion_step(w, m, g, lr, b1, b2, weight_decay)` -> (w, m).

    It takes the sign of a look ahead, and updates the average after that.
    """
    b1, b2 = 0.8, 0.9

    def lion(first=b1, second=b2, decay=lambda w: (1 - LR * DECAY) * w, coupled=0.0, sign=torch.sign, late=False):
        def step(w, m, g, t):
            g = g + coupled * w
            new = second * m + (1 - second) * g
            ahead = new if late else first * m + (1 - first) * g
            return decay(w) - LR * sign(ahead), new

        return step

    wrong = {
        "m was renewed before the step. The step looks at b1 * m + (1 - b1) * g with the *old* m": lambda w, m, g, t: (
            (1 - LR * DECAY) * w - LR * torch.sign(b1 * (b2 * m + (1 - b2) * g) + (1 - b1) * g),
            b2 * m + (1 - b2) * g,
        ),
        "the step is along the sign of the new m. It should be of b1 * m + (1 - b1) * g: nearer to today's gradient": lion(
            late=True
        ),
        "m is kept with b2, the step is mixed with b1: you used b1 for both": lion(second=b1),
        "b1 and b2 have changed places": lion(first=b2, second=b1),
        "no sign: every entry moves by lr, whatever its size": lion(sign=lambda x: x),
        "weight_decay is not used": lion(decay=lambda w: w),
        "Lion's decay is decoupled, like AdamW's: not a part of the gradient": lion(decay=lambda w: w, coupled=DECAY),
        "the shrink is lr * weight_decay": lion(decay=lambda w: (1 - DECAY) * w),
        "uphill: w - lr * sign(...)": lion(sign=lambda x: -x.sign()),
    }
    _compare_walk(lambda w, m, g, t: lion_step(w, m, g, LR, b1, b2, DECAY), lion(), wrong, states=1)
    return "one average instead of Adam's two: half the memory. Since each entry moves by lr, lr has to be smaller than AdamW's."


@exercise
def check_decayed(decayed: Callable[[nn.Module], Sequence[str]]) -> str:
    """Check `decayed(model)`.

    It returns the names of the parameters to decay: two or more axes, and trained at all.
    """
    model = _FusedAttention()
    right = {name for name, p in model.named_parameters() if p.requires_grad and p.ndim >= 2}
    answer = decayed(model)
    if isinstance(answer, str) or not isinstance(answer, Iterable) or not all(isinstance(x, str) for x in answer):
        raise NotYet("return a list of names, as `model.named_parameters()` gives them.")
    given = set(answer)
    if given == right:
        return "and `qkv_w`, which a rule by name would have missed, is decayed; no gain of a norm is."
    everything = {name for name, _ in model.named_parameters()}
    if unknown := given - everything:
        raise NotYet(f"{sorted(unknown)[0]!r} is no parameter of the model.")
    if missed := right - given:
        name = sorted(missed, key=lambda name: (name.endswith("weight"), name))[0]
        raise NotYet(
            f"{name!r} {[*model.get_parameter(name).shape]} is missing: go by the number of axes, `p.ndim >= 2`, not by "
            "names, or a fused weight slips through."
        )
    extra = sorted(given - right)[0]
    if not model.get_parameter(extra).requires_grad:
        raise NotYet(f"{extra!r} is frozen (requires_grad is False): no optimizer takes it.")
    raise NotYet(
        f"{extra!r} {[*model.get_parameter(extra).shape]} has fewer than two axes: a bias, a gain or a scalar."
    )


@exercise
def check_corrected(corrected_lambda: Callable[[float, float, float], float]) -> str:
    """Check `corrected_lambda(lr, lr_max, weight_decay)`.

    It returns lambda of a step, so that the shrink goes with lr^2.
    """
    for lr, lr_max, decay in ((0.002, 0.01, 0.1), (0.03, 0.05, 0.4), (0.05, 0.05, 0.2)):
        right = decay * lr / lr_max
        wrong = {
            lr * right: "that is the shrink, lr * lambda. The optimizer multiplies by lr itself: return lambda",
            decay * (lr / lr_max) ** 2: "now the shrink goes with lr^3: lambda goes with lr, and the shrink with lr^2",
            decay * lr_max / lr: "turned round: with a small lr, lambda is small too (that one is `independent`)",
            decay: "that lambda is constant: the balance of the norm then goes with lr",
            decay * lr: "in units of the peak: lr / lr_max, so that lambda is weight_decay at the peak",
            lr / lr_max: "weight_decay is missing",
            decay * math.sqrt(lr / lr_max): "lambda goes with lr itself, no root",
        }
        compare(corrected_lambda(lr, lr_max, decay), right, wrong, f"lr {lr:g} of {lr_max:g}, weight decay {decay:g}")
    return "at the peak it is AdamW's; a shrink of lr^2 * lambda / lr_max keeps the balance lr * C / (2 lambda) where it was."


class _FusedAttention(nn.Module):
    """Misleading names: a fused weight without "weight", gains with it."""

    def __init__(self):
        super().__init__()
        self.qkv_w = nn.Parameter(torch.zeros(12, 4))
        self.qkv_b = nn.Parameter(torch.zeros(12))
        self.heads = nn.Parameter(torch.zeros(3, 4, 4))
        self.norm = nn.LayerNorm(4)
        self.patches = nn.Conv2d(3, 4, 2)
        self.words = nn.Embedding(7, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.scale = nn.Parameter(torch.tensor(2.0))


def _compare_walk(
    step: Callable[..., Any],
    right: Callable[..., Any],
    wrong: Mapping[str, Callable[..., Any]],
    *,
    states: int,
) -> None:
    """Compare eight steps of `step(w, *state, g, t)` with the right ones."""
    noise = torch.Generator().manual_seed(0)
    start, *gradients = torch.randn(9, SIZE, generator=noise).double()

    def walk(rule: Callable[..., Any], checked: bool) -> list[tuple[Tensor, ...]]:
        now = (start.clone(), *(torch.zeros(SIZE).double() for _ in range(states)))
        seen = []
        for t, g in enumerate(gradients, 1):
            now = rule(*(x.clone() for x in now), g.clone(), t)
            if checked:
                now = _checked(now, states)
            seen.append(now)
        return seen

    answer, expected = walk(step, True), walk(right, False)
    if _same_walk(answer, expected):
        return
    for why, rule in wrong.items():
        known = walk(rule, False)
        whole = _same_walk(known, expected, weights_only=True)  # then only the state tells them apart
        if _same_walk(answer, known, weights_only=not whole):
            raise NotYet(f"{why}.")
    names = ("w", "the first state", "the second state")[: 1 + states]
    for t, (mine, theirs) in enumerate(zip(answer, expected, strict=True), 1):
        for name, a, b in zip(names, mine, theirs, strict=True):
            if not _near(a, b):
                off = int((a - b).abs().nan_to_num(math.inf).argmax())
                raise NotYet(f"step {t}: entry {off} of {name} is {a[off]:.4g} and should be {b[off]:.4g}.")


def _checked(answer: Any, states: int) -> tuple[Tensor, ...]:
    if not isinstance(answer, tuple | list) or len(answer) != states + 1:
        raise NotYet(f"return the new weights and the new state, {states + 1} tensors in the order they were given.")
    if not all(isinstance(x, Tensor) and x.shape == (SIZE,) for x in answer):
        raise NotYet("each of what you return is a tensor of the shape of w.")
    return tuple(x.detach().double() for x in answer)


def _same_walk(one: list[tuple[Tensor, ...]], other: list[tuple[Tensor, ...]], weights_only: bool = False) -> bool:
    last = 1 if weights_only else None
    return all(_near(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x[:last], y[:last], strict=True))


def _near(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-5, atol=1e-8)


def _compare_mask(answer: Any, right: Tensor, wrong: Mapping[str, Tensor], case: str) -> None:
    if not isinstance(answer, Tensor) or answer.shape != right.shape:
        raise NotYet("return one truth value for each weight, a tensor of the shape of w.")
    if torch.equal(answer.bool(), right):
        return
    for why, known in wrong.items():
        if torch.equal(answer.bool(), known) and not torch.equal(known, right):
            raise NotYet(f"{case}: {why}.")
    raise NotYet(f"{case}: {int((answer.bool() != right).sum())} of {len(right)} weights are judged wrongly.")
