r"""OnlineCLR: the hardest negative of the data set against its positives.

The hardest positive, that is; both are soft maxima, estimated from two running numbers:

$$ F = \tau_n \log \sum_{i \ne j} e^{S_{ij}/\tau_n} + \tau_p \log \sum_i e^{-S_{ii}/\tau_p} $$

The first part is a soft maximum over *all* negative pairs, the second a soft maximum of -S over all positive pairs. A
batch sees few of them, so the two sums are kept as running averages u, which carry over from batch to batch:

$$ u \leftarrow (1 - \gamma)\, u + \gamma \sum_{\mathrm{batch}} e^{z}, \qquad w = e^{z} / u, \qquad
   L = \sum_{i \ne j} w^n_{ij} S_{ij} - \sum_i w^p_i S_{ii} $$

with z = S_ij / tau_n or -S_ii / tau_p. The weights w are constants: dL = w dS is the stochastic gradient of F. The
*value* L is only a surrogate for F and may have any sign.

The gradient: one softmax over all B (B - 1) negatives and one over the B positives, of total weight 1 each: a few large
entries in the heat map. After a batch of hard negatives, u_n is large and easier batches weigh little, until
u_n has decayed by 1 - gamma a step; the positives keep pulling meanwhile.

u is kept as log u, so that nothing overflows. Its first value is that of the first batch. The code this loss is known
from (a course's starter code; no paper is known) starts at u = 0 instead, which makes the first weights 1 / gamma times
too big: `form="course"`.

A learned temperature (`learn_temperature=True`; tau_p keeps its ratio r to tau_n) follows dF/dtau_n = (log u_n - sum
w^n z) + r (log u_p - sum w^p z). Once u is steady these are the entropies of the two softmaxes, never negative: tau
only falls, to the bottom of its range, where soft maxima become maxima. Learn it to observe that; keep it fixed to
train well.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clipedu.geometry import Geometry
from clipedu.losses.margins import off_diagonal
from clipedu.losses.memory import MemoryLoss, log_average, zero_with_slope
from clipedu.utils.checks import checked_choice, checked_number


class OnlineCLR(MemoryLoss):
    """Soft maxima over all negatives and all positives.

    Terms: "negatives", "positives".

    Args:
        temperature: tau_n, of the negatives.
        geometry, scale, learn_temperature: see `SimilarityLoss`.
        positive_temperature: tau_p; None is 10 * temperature. If tau_n is learned, tau_p keeps its ratio to it.
        gamma: weight of the newest batch in the running averages, in (0, 1]; where its schedule ends.
        form: "log", or "course" for averages that start at 0.
        gamma_schedule: "constant", or "cosine": from 1 to gamma over the first half of the training.
    """

    description = "hardest negative of the data set against its hardest positive, from two running sums"
    paper = ""
    formula = r"\tau_n\log\sum_{i\neq j}e^{S_{ij}/\tau_n}+\tau_p\log\sum_i e^{-S_{ii}/\tau_p}"

    log_u: Tensor  # [2], float: log of the running sums over negatives and over positives; -inf = no batch yet

    def __init__(
        self,
        temperature: float = 0.01,
        geometry: Geometry | None = None,
        positive_temperature: float | None = None,
        gamma: float = 0.8,
        form: str = "log",
        scale: str = "paper",
        learn_temperature: bool = False,
        gamma_schedule: str = "constant",
    ):
        super().__init__(temperature, geometry, scale, gamma, gamma_schedule, learn_temperature)
        if positive_temperature is None:
            positive_temperature = 10 * self.first_temperature
        self.ratio = checked_number("positive_temperature", positive_temperature, above=0) / self.first_temperature
        self.form = checked_choice("form", form, ("log", "course"))
        self.register_buffer("log_u", torch.full((2,), -math.inf))

    @property
    def clip_scale(self) -> float | Tensor:
        """The factor 1 / tau.

        CLIP's push has at most this mass, OnlineCLR's has mass 1.
        """
        return 1 / self.temperature_value

    def blend(self, similarity: Tensor, index: Tensor) -> dict[str, Tensor]:
        tau = self.temperature_value
        negatives = off_diagonal(similarity / tau).flatten()
        positives = -similarity.diagonal() / (self.ratio * tau)
        log_g = torch.stack([negatives.logsumexp(0), positives.logsumexp(0)])
        return {"log_u": log_average(self.log_u, log_g, self.current_gamma, first_is_g=self.form == "log")}

    def store(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        self.log_u.copy_(memory["log_u"])

    def objective(self, similarity: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        tau, log_u = self.temperature_value, memory["log_u"]
        s_n, s_p = off_diagonal(similarity), similarity.diagonal()
        negatives = (torch.exp(s_n.detach() / tau - log_u[0]) * s_n).sum()
        positives = -(torch.exp(-s_p.detach() / (self.ratio * tau) - log_u[1]) * s_p).sum()
        if self.logit_scale is not None:
            negatives = negatives + zero_with_slope(self.learned_temperature, log_u[0] - negatives / tau)
            positives = positives + zero_with_slope(self.learned_temperature, self.ratio * log_u[1] - positives / tau)
        return {"negatives": negatives, "positives": positives}
