r"""SogCLR: each anchor against the whole data set, by a running average.

Yuan et al. 2022, arXiv:2202.12387.

$$ F = \frac{1}{N} \sum_i \tau \log \mathop{\mathbb{E}}_{j \ne i} e^{(S_{ij} - S_{ii})/\tau} \; + \;
       \text{the same with texts as anchors} $$

The mean over j is over the *whole* data set, N - 1 negatives. Write $h_{ij} = S_{ij} - S_{ii}$ for the margin of a
negative over the positive. d(tau log g) = tau dg / g, and 1 / g is what a small batch estimates badly; so each anchor
has a running average u_i of its g over all the batches it has been in:

$$ g_i = \frac{1}{B-1} \sum_{j \ne i} e^{h_{ij}/\tau}, \qquad u_i \leftarrow (1-\gamma)\, u_i + \gamma\, g_i, \qquad
   L = \frac{1}{B} \sum_i \frac{1}{B-1} \sum_{j \ne i} \frac{e^{h_{ij}/\tau}}{u_i}\, h_{ij} \; + \; \text{texts} $$

The weights w_ij = exp(h_ij / tau) / u_i are constants: the gradient of L is the stochastic gradient of F. The *value*
of L is a surrogate: a weighted margin, often negative, from which F cannot be read.

The gradient: anchor i has the weight g_i / u_i, its g now against its average: when u is right every anchor has mass
1 / B per direction, and keeps it, however easy. That makes the gradient about 2 tau times CLIP's: SogCLR needs a
larger learning rate, or `scale="clip"`. The name stands for *stochastic optimisation for the global objective*; it is
first order.

A learned temperature (`learn_temperature=True`; FastCLIP, arXiv:2407.01445) needs a counterweight rho, as one without
it would only rise: F becomes the mean of tau (log g + rho), both directions, and L is given the slope that it lacks,

$$ \frac{\partial F}{\partial \tau} = \frac{1}{B} \sum_i \Big[ \log u_i + \rho
   - \frac{1}{B-1} \sum_{j \ne i} w_{ij} \frac{h_{ij}}{\tau} \Big] + \text{texts} $$

which is rho - KL(p || uniform), once u is right: tau settles where the softmax over the negatives counts (B - 1) e^-rho
of them. The KL of a batch is at most log(B - 1), 4.8 at B = 128; rho must stay well below, or tau only falls. (u_i
belongs to the tau of its last visit: a good approximation while tau changes slowly.) FastCLIP's own code has the same loss
and gradient on the encoders, but another slope: it adds rho once for the two directions and halves the sum of their log u,
and leaves the part with w h / tau whole. Its slope is that of half the counterweight: (log u + rho) / 2, both directions.

`form="log"` (default) keeps log u: nothing overflows, nothing is added. `form="course"` is the arithmetic of a course's
starter code, to see what it does: a shift b (running maximum of h / tau, which never comes down), s = u exp(-b), and
w = exp(h / tau - b) / (s + 1e-8). On the scale of u that floor is 1e-8 exp(b): it removes the gradient of anchors that
are won, and of anchors that once met a bad negative while they are still wrong.

LibAUC's `GCLoss("bimodal")` (2.0.1), by the authors of the paper, is another loss in four ways: its negatives are summed and the
two directions averaged, so its gradient is (B - 1) / 2 times the paper's and ours; its inputs must be normalised already;
a row that is new in a batch of seen ones starts at u = gamma g, not g; and u is at least 1e-20 exp(b), which at
tau = 0.01 takes the gradient of anchors won by more than about 0.46. A gradient compared with LibAUC's at that temperature
was bent by 18 to 20 % of its length; on batches with no such anchor (embeddings of a run of scenes) the floor changes
nothing, nor at tau = 0.1. Where libauc is installed,
`pytest tests/losses/test_libauc.py` shows each, and `findings/` has a script that installs it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clipedu.geometry import Geometry
from clipedu.losses.margins import log_sum_negatives, margins, without_positives
from clipedu.losses.memory import PerSampleLoss, log_average, zero_with_slope
from clipedu.losses.streaming import (
    STREAM_ABOVE,
    Part,
    by_tiles,
    negatives_by_tiles,
    tile_negatives,
    tile_positives,
)
from clipedu.utils.checks import checked_choice, checked_number


class SogCLR(PerSampleLoss):
    """Global contrastive loss with per-anchor running averages.

    Terms: "image_to_text", "text_to_image".

    Args:
        temperature, geometry, scale, learn_temperature: see `SimilarityLoss`.
        num_samples: rows of the data set, N.
        gamma: weight of the newest batch in the running average, in (0, 1]; where its schedule ends. 1: no memory.
        form: "log", or "course" for the eps-and-shift arithmetic.
        rho: counterweight of a learned temperature, in nats, >= 0; below log(B - 1). Without learning it has no effect.
        gamma_schedule: "constant", or "cosine": from 1 to gamma over the first half of the training.
    """

    description = "each anchor against the whole data set: a running average per anchor instead of a big batch"
    paper = "arXiv:2202.12387"
    formula = (
        r"\frac{1}{N}\sum_i\tau\log\mathbb{E}_{j\neq i}\,e^{(S_{ij}-S_{ii})/\tau}"
        r"+\frac{1}{N}\sum_i\tau\log\mathbb{E}_{j\neq i}\,e^{(S_{ji}-S_{ii})/\tau}"
    )
    eps = 1e-8  # of the course form

    log_u: Tensor  # [2, N] log of the running averages, -inf = never seen (log form)
    s: Tensor  # [2, N] exp(-b) times the running averages, nan = never seen (course form)
    b: Tensor  # [2, N] shifts, the largest h / tau so far (course form)

    def __init__(
        self,
        temperature: float = 0.01,
        num_samples: int | None = None,
        geometry: Geometry | None = None,
        gamma: float = 0.8,
        form: str = "log",
        scale: str = "paper",
        learn_temperature: bool = False,
        rho: float = 3.0,
        gamma_schedule: str = "constant",
    ):
        super().__init__(
            temperature, geometry, scale, gamma, gamma_schedule, learn_temperature, num_samples=num_samples
        )
        self.rho = checked_number("rho", rho, at_least=0)
        self.form = checked_choice("form", form, ("log", "course"))
        if form == "log":
            self.stream_above = STREAM_ABOVE
            self.per_sample("log_u", -math.inf)
        else:
            self.per_sample("s", math.nan)
            self.per_sample("b", 0.0)

    @property
    def clip_scale(self) -> float | Tensor:
        """The factor 1 / (2 tau).

        CLIP is a mean of two directions without the factor tau, SogCLR a sum of two with it.
        """
        return 1 / (2 * self.temperature_value)

    def blend(self, similarity: Tensor, index: Tensor) -> dict[str, Tensor]:
        tau = self.temperature_value
        if self.form == "log":
            return self._average(log_sum_negatives(similarity / tau) - math.log(len(index) - 1), index)
        z = margins(similarity) / tau
        s, b = self.s[:, index], self.b[:, index]
        shift = torch.maximum(b, z.amax(-1))  # b starts at 0, the z of the pair itself
        g = torch.exp(z - shift[..., None]).mean(-1)
        gamma = self.current_gamma
        blended = (1 - gamma) * s * torch.exp(b - shift) + gamma * g
        return {"s": torch.where(s.isnan(), g, blended), "b": shift}

    def objective(self, similarity: Tensor, **memory: Tensor) -> dict[str, Tensor]:
        log_u = memory["log_u"] if self.form == "log" else memory["b"] + torch.log(memory["s"] + self.eps)
        positives, size = similarity.diagonal(), len(similarity)
        others = without_positives(similarity.detach())
        sums = self._weighted(similarity, others, (positives, log_u[0]), (positives, log_u[1]))
        return self._parts(torch.stack(sums) / (size * (size - 1)), log_u)

    def streamed(self, image: Tensor, text: Tensor, index: Tensor) -> dict[str, Tensor]:
        size = len(image)
        with torch.no_grad():  # first pass: the averages
            log_g, constants = negatives_by_tiles(self.geometry, image, text, self.temperature_value)
            log_g = log_g - math.log(size - 1)
            memory = self._average(log_g, index)
        if self.training:
            self.store(index, memory)
        log_u = memory["log_u"]

        def tile(a: Part, b: Part) -> tuple[Tensor | None, ...]:  # second pass: the weighted margins
            similarity = self.geometry.similarity(a.image, b.text)
            images, texts = (constants[a.rows], log_u[0, a.rows]), (constants[b.rows], log_u[1, b.rows])
            sums = self._weighted(similarity, tile_negatives(similarity.detach(), a, b), images, texts)
            return *sums, tile_positives(similarity, a, b)

        *sums, positives = by_tiles(tile, ("sum", "sum", "positives"), image, text, self.geometry.parameters())
        sides = torch.stack(sums) / (size * (size - 1))
        mass = torch.exp(log_g - log_u)  # of an anchor's weights; the gradient of its positive has this factor
        sides = sides - (mass * (positives - constants)).mean(-1)
        return self._parts(sides, log_u)

    def _weighted(
        self, similarity: Tensor, others: Tensor, images: tuple[Tensor, Tensor], texts: tuple[Tensor, Tensor]
    ) -> list[Tensor]:
        """Sum w h with images and with texts as anchors, over a tile of S [C, C].

        `others` is the tile without positives, a constant; `images` and `texts` hold the positives and the log u of its
        rows and of its columns, [C] each.
        """
        tau, sums = self.temperature_value, []
        for (positives, log_u), dim in ((images, 1), (texts, 0)):
            weight = torch.exp(others / tau - (positives.detach() / tau + log_u).unsqueeze(dim))
            sums.append((weight * (similarity - positives.unsqueeze(dim))).sum())
        return sums

    def _average(self, log_g: Tensor, index: Tensor) -> dict[str, Tensor]:
        return {"log_u": log_average(self.log_u[:, index], log_g, self.current_gamma)}

    def _parts(self, sides: Tensor, log_u: Tensor) -> dict[str, Tensor]:
        """Name the two directions [2]; add the slope in a learned temperature."""
        if self.logit_scale is not None:
            slope = log_u.mean(-1) + self.rho - sides / self.temperature_value
            sides = sides + zero_with_slope(self.learned_temperature, slope)
        return {"image_to_text": sides[0], "text_to_image": sides[1]}
