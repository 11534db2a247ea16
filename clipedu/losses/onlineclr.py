r"""OnlineCLR: the hardest negative of the whole data set against its hardest positive, from two running numbers.

$$ F = \tau_n \log \sum_{i \ne j} e^{S_{ij}/\tau_n} + \tau_p \log \sum_i e^{-S_{ii}/\tau_p} $$

The first part is a soft maximum over *all* negative pairs, the second a soft maximum of -S over all positive pairs. A
batch sees few of them, so the two sums are kept as running averages u, which carry over from batch to batch:

$$ u \leftarrow (1 - \gamma)\, u + \gamma \sum_{\mathrm{batch}} e^{z}, \qquad w = e^{z} / u, \qquad
   L = \sum_{i \ne j} w^n_{ij} S_{ij} - \sum_i w^p_i S_{ii} $$

with z = S_ij / tau_n or -S_ii / tau_p. The weights w are constants: dL = w dS is the stochastic gradient of F. The
*value* L is only a stand-in for F and may have any sign.

The gradient: one softmax over all B (B - 1) negatives and one over the B positives, of total weight 1 each: a handful
of bright cells in the heat map. After a batch of hard negatives, u_n is large and easier batches weigh little, until
u_n has decayed by 1 - gamma a step; the positives keep pulling meanwhile.

u is kept as log u, so that nothing overflows. Its first value is that of the first batch. The code this loss is known
from (a course's starter code; no paper is known) starts at u = 0 instead, which makes the first weights 1 / gamma times
too big: `form="course"`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clipedu.geometry import Geometry
from clipedu.losses.base import SimilarityLoss, choice, number
from clipedu.losses.margins import off_diagonal
from clipedu.losses.memory import log_average


class OnlineCLR(SimilarityLoss):
    """Soft maxima over all negatives and all positives, with two running numbers. Terms: "negatives", "positives".

    Args:
        temperature: tau_n, of the negatives.
        positive_temperature: tau_p; None is 10 * temperature.
        gamma: weight of the newest batch in the running averages, in (0, 1].
        form: "log", or "course" for averages that start at 0.
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
    ):
        super().__init__(temperature, geometry, scale)
        if positive_temperature is None:
            positive_temperature = 10 * self.temperature
        self.positive_temperature = number("positive_temperature", positive_temperature, above=0)
        self.gamma = number("gamma", gamma, above=0, at_most=1)
        self.form = choice("form", form, ("log", "course"))
        self.register_buffer("log_u", torch.full((2,), -math.inf))

    @property
    def clip_scale(self) -> float:
        """1 / tau: CLIP's push has at most this mass, OnlineCLR's has mass 1."""
        return 1 / self.temperature

    def blend(self, similarity: Tensor, index: Tensor) -> dict[str, Tensor]:
        negatives = off_diagonal(similarity / self.temperature).flatten()
        positives = -similarity.diagonal() / self.positive_temperature
        log_g = torch.stack([negatives.logsumexp(0), positives.logsumexp(0)])
        return {"log_u": log_average(self.log_u, log_g, self.gamma, first_is_g=self.form == "log")}

    def store(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        self.log_u.copy_(memory["log_u"])

    def objective(self, similarity: Tensor, log_u: Tensor) -> dict[str, Tensor]:
        negatives, positives = off_diagonal(similarity), similarity.diagonal()
        weight_n = torch.exp(negatives.detach() / self.temperature - log_u[0])
        weight_p = torch.exp(-positives.detach() / self.positive_temperature - log_u[1])
        return {"negatives": (weight_n * negatives).sum(), "positives": -(weight_p * positives).sum()}
