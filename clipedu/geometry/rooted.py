r"""What flat and hyperbolic space share: a root, the zero vector, so that length means something.

*Dimension scaling.* A projection to D features of about unit variance has length sqrt(D), too far out for any formula
here. So a tangent vector is alpha times the features, alpha = 1 / sqrt(D) at the start, which makes its length about 1.
alpha is kept as a logarithm, one for each side, and, if learned, held <= 1 as in MERU.

*Cones.* "A dog" says less than "a wet dog in a park". Put the generic near the root and the specific far out, and let
each x be the apex of a cone that opens away from the root: everything in it is a case of x.

    exterior angle   at x, between straight on (from the root through x and beyond) and the path to y;
                     0: y lies behind x on the same ray. pi: y is on the way back to the root
    half-aperture    how wide the cone is. Wide near the root, narrow far out; half of the space (pi / 2) within the
                     *saturation radius*, which `min_radius`, K, sets

y is entailed by x if exterior angle <= half-aperture. At the apex itself (y = x) and with the root as apex no exterior
angle is defined; it is pi / 2 here. (Cones: Ganea et al. 2018, arXiv:1804.01882; of texts: MERU, arXiv:2304.09172.)

K means a different radius in each space and at each curvature: compare shares of entailed pairs only between settings
with the same saturation radius.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from clipedu.geometry.base import Geometry, full_precision
from clipedu.geometry.numerics import arcsin_share, is_number
from clipedu.utils.errors import ClipeduError, unknown_name

SIDES = ("image", "text")


class Rooted(Geometry):
    """A space whose root is the zero vector. Prototypes are means of tangent vectors; cones are defined.

    Args:
        dim: width of the embeddings, D; alpha starts at 1 / sqrt(D).
        learn_alpha: learn alpha, one for images and one for texts (parameters `log_alpha_image`, `log_alpha_text`).
    """

    has_cones = True

    def __init__(self, dim: int, learn_alpha: bool):
        super().__init__()
        self._ranges: dict[str, tuple[float, float]] = {}
        for side in SIDES:
            self.keep_log(f"alpha_{side}", dim**-0.5, learn_alpha, most=1.0)

    def keep_log(self, name: str, value: float, learn: bool, least: float = 0.0, most: float = math.inf) -> None:
        """Keep log(value) as `log_<name>`, a parameter if it is to be learned, else a buffer; the range is for `read`."""
        if not isinstance(learn, bool):
            raise ClipeduError(f"learn_{name.split('_')[0]} must be true or false, got {learn!r}")
        self._ranges[name] = (math.log(least) if least else -math.inf, math.log(most))
        log = torch.tensor(math.log(value))
        if learn:
            self.register_parameter(f"log_{name}", nn.Parameter(log))
        else:
            self.register_buffer(f"log_{name}", log)

    def read(self, name: str) -> Tensor:
        """exp of `log_<name>`, a scalar tensor with gradient. The logarithm itself is clamped to its range, in place."""
        log = getattr(self, f"log_{name}")
        with torch.no_grad():
            log.clamp_(*self._ranges[name])
        return log.exp()

    @full_precision
    def tangent(self, features: Tensor, side: str) -> Tensor:
        """What a projection returns, [..., D], times alpha of this `side`, "image" or "text"."""
        if side not in SIDES:
            raise unknown_name("side", side, SIDES)
        return self.read(f"alpha_{side}") * features

    def watched(self) -> dict[str, Tensor]:
        """What the geometry learns, as numbers to log: "curvature", "alpha_image", "alpha_text", as far as learned."""
        learned = [name.removeprefix("log_") for name, _ in self.named_parameters(recurse=False)]
        return {name: self.read(name).detach() for name in learned}

    @full_precision
    def mean(self, x: Tensor) -> Tensor:
        """The mean of the tangent vectors x [N, D]: [D]. Long ones count more, and the prototype keeps a length."""
        return x.mean(dim=0)

    @full_precision
    def root(self, x: Tensor) -> Tensor:
        """The zero vector, [D], as wide as x [N, D]."""
        return x.new_zeros(x.shape[-1])

    def saturation(self, x: Tensor, min_radius: float) -> tuple[float, Tensor]:
        """Two sides whose ratio is the sine of the half-aperture: a number, and a size [...] that grows with |x|."""
        raise NotImplementedError

    @full_precision
    def half_aperture(self, x: Tensor, min_radius: float = 0.1) -> Tensor:
        """Angle between the axis and the side of the cone at apex x: [..., D] -> [...] in (0, pi / 2] radians.

        Args:
            min_radius: K >= 0. At 0 every cone has closed to its axis: 0. Otherwise `ClipeduError`.
        """
        if not is_number(min_radius) or min_radius < 0:
            raise ClipeduError(f"min_radius must be a number >= 0, got {min_radius!r}")
        part, whole = self.saturation(x, min_radius)
        return arcsin_share(part, whole) if part > 0 else torch.zeros_like(whole)

    @full_precision
    def entailment(self, text: Tensor, image: Tensor, min_radius: float = 0.1) -> Tensor:
        """How far, in radians, each image lies outside the cone of its text: [..., D], [..., D] -> [...] >= 0.

        max(0, exterior angle - half-aperture), with the *text* as apex. With `min_radius` 0 there is no cone, and it is
        the exterior angle alone.
        """
        return torch.relu(self.exterior_angle(text, image) - self.half_aperture(text, min_radius))
