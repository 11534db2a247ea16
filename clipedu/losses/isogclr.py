r"""iSogCLR: SogCLR with a temperature of its own for every anchor.

Qiu et al. 2023, arXiv:2305.11965.

$$ F = \frac{1}{N} \sum_i \min_{\tau_i \in [\tau_{lo}, \tau_{hi}]}
       \Big( \tau_i \log \mathop{\mathbb{E}}_{j \ne i} e^{h_{ij}/\tau_i} + \tau_i \rho \Big) + \text{texts},
   \qquad h_{ij} = S_{ij} - S_{ii} $$

Where it comes from: let an adversary re-weight the negatives of anchor i, but by no more than KL(p || uniform) <= rho.
The worst it can do is the expression above, and tau_i is the price of its budget (distributionally robust
optimisation). A frequent concept, with many near-misses among its negatives, gets a high temperature; a rare one a low
one.

The temperature's gradient is rho - KL(p_i || uniform), estimated with the running average u_i of SogCLR:

$$ \frac{\partial}{\partial \tau_i} \approx
   \log u_i + \rho - \frac{1}{B-1} \sum_{j \ne i} \frac{e^{z_{ij}}}{u_i} z_{ij}, \qquad z = h / \tau_i $$

It is clamped to +-5 (`largest_slope`, from the course's starter code; none in the paper and in LibAUC), averaged with
momentum 0.5, and followed by a step of size eta; tau_i stays in its range. The gradient on the encoders is SogCLR's, with
each anchor's own temperature.

Two things to watch. With u = g the KL is that of one batch, at most log(B - 1), 4.8 at B = 128 and below rho = 8: the
temperature falls. It rises only for an anchor whose batch is harder than its average (g > u). And eta decides whether
temperatures become individual at all: the course's starter code has 1e-5, with which 30 visits move a temperature by at
most 0.0015 of the range 0.045.

Who compares with others' code meets other defaults: LibAUC has rho 6, eta 0.01 and momentum 0.9 in place of 8, 0.001 and
0.5, and no clamp; FastCLIP's individual temperatures have the clamp at 5, and Adam's step in place of momentum.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clipedu.geometry import Geometry
from clipedu.losses.margins import log_mean_exp, margins
from clipedu.losses.memory import PerSampleLoss, log_average
from clipedu.utils.checks import checked_number
from clipedu.utils.errors import ClipeduError, quoted


class ISogCLR(PerSampleLoss):
    """SogCLR with learned per-anchor temperatures.

    Terms: "image_to_text", "text_to_image".

    Args:
        temperature: every anchor's first temperature, within `temperature_range`.
        num_samples: rows of the data set, N.
        geometry, scale: see `SimilarityLoss`.
        gamma: weight of the newest batch in the running average, in (0, 1]; where its schedule ends.
        rho: budget of the adversary, in nats, >= 0.
        eta: step size of the temperatures, >= 0; 0 is SogCLR.
        temperature_range: smallest and largest temperature.
        gamma_schedule: "constant", or "cosine": from 1 to gamma over the first half of the training.
        largest_slope: each visit's gradient of a temperature is clamped to this size, > 0; None does not clamp it, as in the
            paper and in LibAUC.
    """

    description = "SogCLR with a temperature of its own for every image and every text"
    paper = "arXiv:2305.11965"
    formula = (
        r"\frac{1}{N}\sum_i\min_{\tau_i}\left(\tau_i\log\mathbb{E}_{j\neq i}\,e^{(S_{ij}-S_{ii})/\tau_i}"
        r"+\tau_i\rho\right)+\text{texts}"
    )
    momentum = 0.5

    log_u: Tensor  # [2, N] log of the running averages, -inf = never seen
    tau: Tensor  # [2, N] temperatures of images and texts
    slope: Tensor  # [2, N] running averages of their gradients

    def __init__(
        self,
        temperature: float = 0.01,
        num_samples: int | None = None,
        geometry: Geometry | None = None,
        gamma: float = 0.8,
        rho: float = 8.0,
        eta: float = 1e-3,
        temperature_range: tuple[float, float] = (0.005, 0.05),
        scale: str = "paper",
        gamma_schedule: str = "constant",
        largest_slope: float | None = 5.0,
    ):
        super().__init__(temperature, geometry, scale, gamma, gamma_schedule, num_samples=num_samples)
        self.rho = checked_number("rho", rho, at_least=0)
        self.eta = checked_number("eta", eta, at_least=0)
        if largest_slope is not None:
            checked_number("largest_slope", largest_slope, above=0)
        self.largest_slope = math.inf if largest_slope is None else float(largest_slope)
        if not isinstance(temperature_range, (list, tuple)) or len(temperature_range) != 2:
            raise ClipeduError(f"temperature_range must be a list of two numbers, got {quoted(temperature_range)}")
        self.low, self.high = (checked_number("temperature_range", end, above=0) for end in temperature_range)
        if not self.low <= self.first_temperature <= self.high:
            allowed = f"temperature_range, {self.low:g} to {self.high:g}: change one of the two"
            raise ClipeduError(f"isogclr's temperature {self.first_temperature:g} is not within its {allowed}")
        self.per_sample("log_u", -math.inf)
        self.per_sample("tau", self.first_temperature)
        self.per_sample("slope", 0.0)

    @property
    def clip_scale(self) -> float:
        """The factor 1 / (2 tau), as for SogCLR, at the first temperature."""
        return 1 / (2 * self.first_temperature)

    def watched(self) -> dict[str, Tensor]:
        return super().watched() | {"temperature": self.tau.mean()}

    def blend(self, similarity: Tensor, index: Tensor) -> dict[str, Tensor]:
        tau = self.tau[:, index]
        z = margins(similarity) / tau[..., None]
        log_u = log_average(self.log_u[:, index], log_mean_exp(z), self.current_gamma)
        slope = log_u + self.rho - (torch.exp(z - log_u[..., None]) * z).mean(-1)
        slope = slope.clamp(-self.largest_slope, self.largest_slope)
        slope = self.momentum * self.slope[:, index] + (1 - self.momentum) * slope
        new_tau = (tau - self.eta * slope).clamp(self.low, self.high)
        return {"log_u": log_u, "tau": new_tau, "slope": slope, "tau_of_step": tau}

    def objective(self, similarity: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        h = margins(similarity)
        weight = torch.exp(h.detach() / memory["tau_of_step"][..., None] - memory["log_u"][..., None])
        image, text = (weight * h).mean(dim=(1, 2))
        return {"image_to_text": image, "text_to_image": text}
