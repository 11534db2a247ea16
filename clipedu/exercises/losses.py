"""Checks of the exercises in 02_losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from clipedu.exercises.base import NotYet, as_float, close, compare, exercise
from clipedu.toys.similarity_batch import examine


@exercise
def check_clip_weights(clip_weights: Callable[[Tensor, float], Tensor]) -> str:
    """Check `clip_weights(similarity [B, B], temperature)`.

    It returns dL/dS of CLIP, (P + Q - 2 I) / (2 B tau).
    """
    for s, tau in _batches():
        right, size, own = _library("clip", s, tau), len(s), torch.eye(len(s)).double()
        p, q = (s / tau).softmax(1), (s / tau).softmax(0)
        wrong = {
            "the sign is turned: dL/dS is negative where a pair is pulled together": -right,
            "you forgot to divide by the temperature in front of S: d(S / tau) / dS = 1 / tau": right * tau,
            "the two directions are averaged: divide by 2 B, not by B": 2 * right,
            "the loss is a mean over the batch: divide by B": right * size,
            "only pictures are queries here (rows). Captions are queries too: a softmax over the columns, dim=0": (
                p - own
            )
            / (size * tau),
            "only captions are queries here (columns). Pictures are queries too": (q - own) / (size * tau),
            "each of the two directions pulls the own pair: take off 2 I, not I": (p + q - own) / (2 * size * tau),
            "the softmax is of S / tau, not of S": (s.softmax(1) + s.softmax(0) - 2 * own) / (2 * size * tau),
        }
        _compare_matrix(clip_weights(s.clone(), tau), right, wrong, f"a batch of {size} at temperature {tau}")
    return "your W is autograd's, to the last digits. A whole loss in one line: what is likely, minus what is right."


@exercise
def check_dcl_weights(dcl_weights: Callable[[Tensor, float], Tensor]) -> str:
    """Check `dcl_weights(similarity [B, B], temperature)`.

    It returns dL/dS of DCL: CLIP's, with softmaxes over the negatives only.
    """
    for s, tau in _batches():
        right, size, own = _library("dcl", s, tau), len(s), torch.eye(len(s)).double()

        def weights(masked: Tensor, own: Tensor = own, size: int = size, tau: float = tau) -> Tensor:
            return (masked.softmax(1) + masked.softmax(0) - 2 * own) / (2 * size * tau)

        zeroed = (s / tau) * (1 - own)
        p, q = ((s / tau).softmax(dim) * (1 - own) for dim in (1, 0))
        wrong = {
            "that is still CLIP: the positive is in the denominator": _library("clip", s, tau),
            "a logit of 0 is a candidate like others (exp(0) = 1). Mask with -inf": weights(zeroed),
            "log(1e-45) is only -104, and S / tau can be above it: a much-copied mask that masks nothing. Use -inf": weights(
                s / tau - 103.6 * own
            ),
            "the probabilities of the negatives have to add up to 1: mask before the softmax, not after it": (
                p + q - 2 * own
            )
            / (2 * size * tau),
            "the own pair is not in the softmax, but it is still pulled: - 2 I": right + 2 * own / (2 * size * tau),
            "the sign is turned: dL/dS is negative where a pair is pulled together": -right,
            "divide by 2 B tau": right * 2 * size * tau,
        }
        _compare_matrix(dcl_weights(s.clone(), tau), right, wrong, f"a batch of {size} at temperature {tau}")
    return "every diagonal entry is -1 / (B tau), however easy the pair: the factor 1 - P_ii is gone."


@exercise
def check_copies(loss_with_copies: Callable[[int, int], float]) -> str:
    """Check `loss_with_copies(batch_size, copies)`.

    It returns the lowest CLIP loss if `copies` pairs have one and the same caption.
    """
    for batch, copies in ((64, 8), (128, 2), (8, 8), (16, 1)):
        right = copies * math.log(copies) / batch
        wrong = {
            math.log(
                copies
            ): "that is what one of the copies pays; the others pay nothing, and the loss is a mean over all pairs",
            copies * math.log(copies): "that is the sum over the batch; the loss is its mean",
            math.log(copies) / batch: "you count one of the copies: each of them pays log of their number",
            copies
            * math.log(copies)
            / (2 * batch): "both directions pay: a picture cannot choose among equal captions, "
            "nor a caption among the pictures of its copies",
            math.log(batch): "that is the loss of a blind model: here only the copies cannot be told apart",
            copies / batch: "that is the share of pairs that pay. How much? The right one of k equals has p = 1 / k",
            0.0: "even a perfect model cannot tell equal captions apart: at best it gives each the probability 1 / copies",
        }
        compare(loss_with_copies(batch, copies), right, wrong, f"{copies} copies in a batch of {batch}")
    return "two copies among 128 cost 0.011 for ever, at any temperature. No training removes it, but it will try."


@exercise
def check_running_average(remember: Callable[[Tensor, Tensor, float], Tensor]) -> str:
    """Check `remember(log_u, z [K], gamma)`.

    It returns the log of (1 - gamma) u + gamma mean(exp(z)), for any size of z; log_u -inf: first.
    """
    noise = torch.Generator().manual_seed(0)
    z = torch.randn(7, generator=noise).double()
    for log_u, gamma in ((0.3, 0.8), (-1.0, 0.2)):
        u, g = math.exp(log_u), z.exp().mean().item()
        right = math.log((1 - gamma) * u + gamma * g)
        wrong = {
            (1 - gamma) * log_u
            + gamma
            * math.log(
                g
            ): "you average the logarithms; u is an average of exponentials: log of (1 - gamma) u + gamma g",
            math.log(
                gamma * u + (1 - gamma) * g
            ): "gamma is the weight of the newest batch, 1 - gamma that of the old u",
            math.log((1 - gamma) * u + gamma * g * 7): "g is a mean over the negatives: take off log K after logsumexp",
            math.log(g): "that is this batch alone: nothing of the old u is left",
            math.log((1 - gamma) * u + gamma * math.exp(z.mean())): "that is exp of the mean; g is the mean of exp",
            (1 - gamma) * u + gamma * g: "that is u itself: return its logarithm",
        }
        _compare_average(remember, log_u, z, gamma, right, wrong, "small numbers")
    for shift in (3000.0, -3000.0):
        right = shift + math.log(0.2 * math.exp(0.3) + 0.8 * z.exp().mean())
        _compare_average(remember, 0.3 + shift, z + shift, 0.8, right, {}, f"logarithms near {shift:.0f}")
    first = math.log(z.exp().mean())
    wrong = {
        first + math.log(0.8): "an average that starts at 0 is gamma times g at its first step, and weights 1 / u are "
        "1 / gamma too big. Where log_u is -inf, return log g"
    }
    _compare_average(remember, -math.inf, z, 0.8, first, wrong, "a first visit (log_u = -inf)")
    return "it holds for e^3000 and e^-3000 too, with no shift b to carry along, and nothing like 1e-8 to add."


@exercise
def check_sogclr_weights(sogclr_weights: Callable[[Tensor, Tensor, float], Tensor]) -> str:
    """Check `sogclr_weights(similarity [B, B], log_u [2, B], temperature)`.

    It returns dL/dS of SogCLR, with any memory.
    """
    noise = torch.Generator().manual_seed(1)
    for s, tau in (*_batches(), (_batches()[0][0], 0.0002)):
        size, own = len(s), torch.eye(len(s)).double()
        log_g = torch.stack([_log_g(s, tau), _log_g(s.T, tau)])
        log_u = log_g + torch.randn(2, size, generator=noise).double()
        image = _anchored(s, log_u[0], tau)
        text = _anchored(s.T, log_u[1], tau).T
        right = image + text
        swapped = _anchored(s, log_u[1], tau) + _anchored(s.T, log_u[0], tau).T
        wrong = {
            "only pictures are anchors here. Captions are anchors too: the same with S transposed, and transposed back": image,
            "the captions' part has to be transposed back: rows are pictures": image + text.T,
            "log_u[0] belongs to the pictures (rows), log_u[1] to the captions": swapped,
            "the mean over the negatives divides by B - 1 as well: by B (B - 1) in all": right * (size - 1),
            "an anchor has B - 1 negatives, not B": right * (size - 1) / size,
            "the loss is a mean over the anchors: divide by B": right * size,
            "h = S_ij - S_ii has S_ii in it too: each anchor's weights come off its diagonal cell": right * (1 - own),
            "the sign is turned: negatives are pushed, W_ij > 0": -right,
            "tau log has tau / tau in front: no further division by the temperature": right / tau,
            "that is the first visit, where u = g. Use the log_u that is given": _anchored(s, log_g[0], tau)
            + _anchored(s.T, log_g[1], tau).T,
        }
        answer = sogclr_weights(s.clone(), log_u.clone(), tau)
        if isinstance(answer, Tensor) and answer.shape == s.shape and not answer.isfinite().all():
            raise NotYet(f"at temperature {tau} you got {answer[~answer.isfinite()][0]}: exp(h / tau) or u left the range of "
                         "numbers. Subtract first, h / tau - log u, then take exp once")  # fmt: skip
        _compare_matrix(answer, right, wrong, f"a batch of {size} at temperature {tau}")
    return "one exp, taken last: h / tau and log u may be 3000, their difference is small."


@exercise
def check_silenced(silenced: Callable[[Tensor, Tensor, float], Tensor]) -> str:
    """Check `silenced(h [N, K], b [N], temperature)`.

    It returns the anchors whose s = mean(exp(h / tau - b)) is below 1e-8, bool [N].
    """
    noise = torch.Generator().manual_seed(2)
    for tau in (0.01, 0.03):
        worst = torch.tensor([-0.6, -0.25, -0.15, 0.02, 0.10, -0.12, 0.05, -0.3]).double()
        h = worst[:, None] - 0.3 * torch.rand(8, 20, generator=noise).double()
        h[:, 4] = worst
        b = torch.tensor([0.0, 0.0, 0.0, 2.0, 40.0, 9.0, 3.0, 30.0]).double() * (0.01 / tau)
        b = torch.maximum(b, (h / tau).amax(1))
        right = (h / tau).logsumexp(1) - math.log(20) - b < math.log(1e-8)
        answer = silenced(h.clone(), b.clone(), tau)
        if not isinstance(answer, Tensor) or answer.shape != right.shape:
            raise NotYet("return one truth value for each anchor, a tensor [N]: `return s < 1e-8`")
        wrong = {
            "you left out b: what is compared with 1e-8 is the mean of exp(h / tau - b)": (h / tau).exp().mean(1)
            < 1e-8,
            "you left out the temperature: margins are divided by it": (h - b[:, None]).exp().mean(1) < 1e-8,
            "turned round: silenced are those whose s is *below* 1e-8": ~right,
            "the sign of b: the shift is subtracted, exp(h / tau - b)": (h / tau + b[:, None]).exp().mean(1) < 1e-8,
            "not all that are won are silenced, and not only those": worst < 0,
        }
        for why, known in wrong.items():
            if torch.equal(answer.bool(), known) and not torch.equal(known, right):
                raise NotYet(f"at temperature {tau}: {why}.")
        if not torch.equal(answer.bool(), right):
            off = int((answer.bool() != right).nonzero()[0])
            said = f"hardest margin {worst[off]:+.2f}, b = {b[off]:.1f}"
            raise NotYet(f"at temperature {tau} anchor {off} ({said}) is {'' if right[off] else 'not '}silenced.")
    return (
        "one of them is still wrong (its margin is above 0) and is silenced all the same: it once met a bad negative."
    )


@exercise
def check_siglip(siglip_loss: Callable[[Tensor, float, float], Any]) -> str:
    """Check `siglip_loss(similarity [B, B], scale, bias)`.

    It returns the sum over all cells of log(1 + exp(-z (t S + c))), over B.
    """
    for s, _ in _batches():
        size, own = len(s), torch.eye(len(s)).double()
        for t, c in ((10.0, -10.0), (4.0, -1.0)):
            z, logits = 2 * own - 1, t * s + c
            right = (softplus(-z * logits).sum() / size).item()
            wrong = {
                softplus(-z * logits).mean().item(): "divide the sum over all B x B cells by B, not by B^2: one positive a row",
                softplus(-z * logits).sum().item(): "divide the sum by B",
                softplus(z * logits).sum().item() / size: "the sign is turned: the loss is minus the log of sigmoid(z (t S + c))",
                logsigmoid(z * logits).sum().item() / size: "the loss is *minus* the log",
                softplus(-logits).sum().item() / size: "z = -1 off the diagonal: there, the right answer is no",
                softplus(-own * logits).sum().item() / size: "z is +1 or -1, not 1 or 0: a zero makes every other cell cost log 2",
                softplus(-z * (t * s - c)).sum().item() / size: "the bias is added: t S + c",
                softplus(-z * (s / t + c)).sum().item() / size: "t multiplies: it is a scale, 1 / temperature",
                softplus(-logits.diagonal()).sum().item() / size: "these are the own pairs only; the other B - 1 cells of a row count too",
                -torch.sigmoid(z * logits).sum().item() / size: "you forgot the logarithm",
            }  # fmt: skip
            compare(siglip_loss(s.clone(), t, c), right, wrong, f"a batch of {size}, scale {t:g}, bias {c:g}")
    big = as_float(siglip_loss(torch.eye(4).double(), 2000.0, -3000.0))
    if not close(big, 1000.0):
        raise NotYet(f"with a scale of 2000 and a bias of -3000 it should be 1000, and you got {big:.4g}: log(1 + exp(x)) "
                     "overflows. `softplus` and `logsigmoid` do not")  # fmt: skip
    return "no softmax anywhere: each cell is a question of its own, so a batch can be cut into pieces."


def _batches() -> list[tuple[Tensor, float]]:
    """Similarities without equal cells, own pairs ahead; and temperatures."""
    noise = torch.Generator().manual_seed(0)
    return [
        (0.5 * torch.rand(size, size, generator=noise).double() + 0.3 * torch.eye(size), tau)
        for size, tau in ((5, 0.1), (3, 0.5), (6, 0.004))
    ]


def _library(name: str, similarity: Tensor, temperature: float) -> Tensor:
    return examine(name, similarity, temperature=temperature).weights


def _log_g(similarity: Tensor, temperature: float) -> Tensor:
    """Return the log of the mean of exp((S_ij - S_ii) / tau), [B].

    The mean is over the others of a row.
    """
    z = (similarity - similarity.diagonal()[:, None]) / temperature
    return z.fill_diagonal_(-math.inf).logsumexp(1) - math.log(len(z) - 1)


def _anchored(similarity: Tensor, log_u: Tensor, temperature: float) -> Tensor:
    """Return the rows' part of SogCLR's dL/dS: each row is an anchor."""
    z = (similarity - similarity.diagonal()[:, None]) / temperature
    w = torch.exp(z.fill_diagonal_(-math.inf) - log_u[:, None]) / (len(z) * (len(z) - 1))
    return w - torch.diag(w.sum(1))


def _compare_matrix(answer: Any, right: Tensor, wrong: Mapping[str, Tensor], case: str) -> None:
    """Compare a matrix with the right one; as `compare`."""
    if not isinstance(answer, Tensor) or answer.shape != right.shape:
        shape = f"shape {[*answer.shape]}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
        raise NotYet(f"return a matrix {[*right.shape]}, one weight for each picture and caption; you returned {shape}")
    answer = answer.double()
    if _near(answer, right):
        return
    for why, known in wrong.items():
        if _near(answer, known) and not _near(known, right):
            raise NotYet(f"{case}: {why}.")
    row, column = divmod(int((answer - right).abs().nan_to_num(math.inf).argmax()), len(right))
    raise NotYet(
        f"{case}: entry [{row}, {column}] is {answer[row, column]:.4g} and should be {right[row, column]:.4g}."
    )


def _near(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-5, atol=1e-9 + 1e-6 * other.abs().max().item())


def _compare_average(
    remember: Callable, log_u: float, z: Tensor, gamma: float, right: float, wrong: Mapping[float, str], case: str
) -> None:
    value = as_float(remember(torch.tensor(log_u).double(), z.clone(), gamma))
    if not math.isfinite(value):
        raise NotYet(
            f"for {case} you got {value}: exp overflowed, or log of 0. Stay in logarithms: logsumexp, logaddexp"
        )
    compare(value, right, wrong, case)
