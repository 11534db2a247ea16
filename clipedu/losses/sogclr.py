r"""SogCLR: every anchor against the whole data set, with one running number each (Yuan et al. 2022, arXiv 2202.12387).

$$ F = \frac{1}{N} \sum_i \tau \log \mathop{\mathbb{E}}_{j \ne i} e^{(S_{ij} - S_{ii})/\tau} \; + \;
       \text{the same with texts as anchors} $$

The mean over j is over the *whole* data set, N - 1 negatives. Write $h_{ij} = S_{ij} - S_{ii}$ for the margin by which
a negative beats the pair. d(tau log g) = tau dg / g, and 1 / g is what a small batch estimates badly; so each anchor
has a running average u_i of its g over all the batches it has been in:

$$ g_i = \frac{1}{B-1} \sum_{j \ne i} e^{h_{ij}/\tau}, \qquad u_i \leftarrow (1-\gamma)\, u_i + \gamma\, g_i, \qquad
   L = \frac{1}{B} \sum_i \frac{1}{B-1} \sum_{j \ne i} \frac{e^{h_{ij}/\tau}}{u_i}\, h_{ij} \; + \; \text{texts} $$

The weights w_ij = exp(h_ij / tau) / u_i are constants: the gradient of L is the stochastic gradient of F. The *value*
of L is a stand-in: a weighted margin, often negative; F is not to be read off it.

The gradient: anchor i has the weight g_i / u_i, "is it worse off than it used to be?": when u is right every anchor has
mass 1 / B a side, and none goes dark, however easy. That makes the gradient about 2 tau times CLIP's: SogCLR wants a
larger learning rate, or `scale="clip"`. The name stands for *stochastic optimisation for the global objective*; it is
first order.

`form="log"` (default) keeps log u: nothing overflows, nothing is added. `form="course"` is the arithmetic of a course's
starter code, to see what it does: a shift b (running maximum of h / tau, which never comes down), s = u exp(-b), and
w = exp(h / tau - b) / (s + 1e-8). In true units that floor is 1e-8 exp(b): it silences anchors that are won, and
anchors that once met a bad negative while they are still wrong.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clipedu.geometry import Geometry
from clipedu.losses.base import choice, number
from clipedu.losses.margins import log_mean_exp, margins
from clipedu.losses.memory import PerSampleLoss, log_average


class SogCLR(PerSampleLoss):
    """Global contrastive loss with per-anchor running averages. Terms: "image_to_text", "text_to_image".

    Args:
        num_samples: rows of the data set, N.
        gamma: weight of the newest batch in the running average, in (0, 1]. 1: no memory. May be set between steps.
        form: "log", or "course" for the eps-and-shift arithmetic.
    """

    description = "each anchor against the whole data set: a running average per anchor instead of a big batch"
    paper = "arXiv:2202.12387"
    formula = (
        r"\frac{1}{N}\sum_i\tau\log\mathbb{E}_{j\neq i}\,e^{(S_{ij}-S_{ii})/\tau}"
        r"+\frac{1}{N}\sum_i\tau\log\mathbb{E}_{j\neq i}\,e^{(S_{ji}-S_{ii})/\tau}"
    )
    eps = 1e-8  # of the course form

    def __init__(
        self,
        temperature: float = 0.01,
        num_samples: int | None = None,
        geometry: Geometry | None = None,
        gamma: float = 0.8,
        form: str = "log",
        scale: str = "paper",
    ):
        super().__init__(temperature, num_samples, geometry, scale)
        self.gamma = number("gamma", gamma, above=0, at_most=1)
        self.form = choice("form", form, ("log", "course"))
        if form == "log":
            self.per_sample("log_u", -math.inf)  # -inf: never seen
        else:
            self.per_sample("s", math.nan)  # nan: never seen
            self.per_sample("b", 0.0)

    @property
    def clip_scale(self) -> float:
        """1 / (2 tau): CLIP is a mean of two directions without the factor tau, SogCLR a sum of two with it."""
        return 1 / (2 * self.temperature)

    def blend(self, similarity: Tensor, index: Tensor) -> dict[str, Tensor]:
        z = margins(similarity) / self.temperature
        if self.form == "log":
            return {"log_u": log_average(self.log_u[:, index], log_mean_exp(z), self.gamma)}
        s, b = self.s[:, index], self.b[:, index]
        shift = torch.maximum(b, z.amax(-1))  # b starts at 0, the z of the pair itself
        g = torch.exp(z - shift[..., None]).mean(-1)
        blended = (1 - self.gamma) * s * torch.exp(b - shift) + self.gamma * g
        return {"s": torch.where(s.isnan(), g, blended), "b": shift}

    def objective(self, similarity: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        log_u = memory["log_u"] if self.form == "log" else memory["b"] + torch.log(memory["s"] + self.eps)
        h = margins(similarity)
        weight = torch.exp(h.detach() / self.temperature - log_u[..., None])
        image, text = (weight * h).mean(dim=(1, 2))
        return {"image_to_text": image, "text_to_image": text}
