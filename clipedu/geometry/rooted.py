r"""What flat and hyperbolic space share: the zero vector as root, cones.

*Dimension scaling.* A projection to D features of unit variance has length sqrt(D), too large for any formula here. So a
tangent vector is alpha times the features, with an alpha for each modality, kept as a logarithm, at most 1 as in MERU.

In the papers alpha starts at 1 / sqrt(D), and a last LayerNorm in the encoders makes that a length of 1. Without it the
start is what the features are: with 1 / sqrt(D) the test ResNet and the small DistilBERT of the scenes begin at 0.69
(images) and 0.30 (texts). So training starts with the alpha that makes the first embeddings of either modality as long as
`start_length`, 1, on average (`clipedu.training.start_lengths`). `start_length=None` is the papers' start.

*Cones.* "A dog" is more general than "a wet dog in a park". Put the generic near the root and the specific far from it,
and let each x be the apex of a cone that opens away from the root: everything in it is an instance of x.

    exterior angle   at x, between the direction away from the root and the path to y;
                     0: y lies behind x on the same ray. pi: y is on the way back to the root
    half-aperture    the width of the cone: wide near the root, narrow far from it; half of the space (pi / 2)
                     within the *saturation radius*, which `min_radius`, K, sets

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
from clipedu.geometry.numerics import arcsin_share
from clipedu.utils.checks import checked_number
from clipedu.utils.errors import ClipeduError, unknown_name

SIDES = ("image", "text")


class Rooted(Geometry):
    """A space whose root is the zero vector, with cones.

    Prototypes are means of tangent vectors.

    Args:
        dim: width of the embeddings, D; alpha is 1 / sqrt(D) until `start_with`.
        learn_alpha: learn alpha, one for images and one for texts (parameters `log_alpha_image`, `log_alpha_text`).
        start_length: mean length of the tangent vectors when training starts, > 0; None leaves alpha at 1 / sqrt(D).
    Raises:
        ClipeduError: an option that is not allowed.
    """

    has_cones = True

    def __init__(self, dim: int, learn_alpha: bool, start_length: float | None = 1.0):
        super().__init__()
        self.start_length = None if start_length is None else checked_number("start_length", start_length, above=0)
        self._ranges: dict[str, tuple[float, float]] = {}
        for side in SIDES:
            self.keep_log(f"alpha_{side}", dim**-0.5, learn_alpha, most=1.0)

    def keep_log(self, name: str, value: float, learn: bool, least: float = 0.0, most: float = math.inf) -> None:
        """Register log(value) as `log_<name>`, a parameter or a buffer.

        Args:
            name: of the number; `read(name)` returns its value.
            value: its initial value, > 0.
            learn: whether it is a parameter.
            least, most: range of the value, in which `read` keeps it.

        Raises:
            ClipeduError: a `learn` that is no bool.
        """
        if not isinstance(learn, bool):
            raise ClipeduError(f"learn_{name.split('_')[0]} must be true or false, got {learn!r}")
        self._ranges[name] = (math.log(least) if least else -math.inf, math.log(most))
        log = torch.tensor(math.log(value))
        if learn:
            self.register_parameter(f"log_{name}", nn.Parameter(log))
        else:
            self.register_buffer(f"log_{name}", log)

    def read(self, name: str) -> Tensor:
        """Return exp of `log_<name>`, a scalar with gradient.

        The logarithm itself is clamped to its range, in place.
        """
        log = getattr(self, f"log_{name}")
        with torch.no_grad():
            log.clamp_(*self._ranges[name])
        return log.exp()

    @full_precision
    def tangent(self, features: Tensor, side: str) -> Tensor:
        """Multiply features [..., D] by alpha of this `side`, "image" or "text"."""
        if side not in SIDES:
            raise unknown_name("side", side, SIDES)
        return self.read(f"alpha_{side}").to(features.device) * features

    @torch.no_grad()
    def start_with(self, length: float, side: str) -> float:
        """Set alpha so that features of this mean length get `start_length`.

        Alpha stays as it is for a length of 0, or one that is not finite.

        Args:
            length: mean of what the projection returns for the first pairs.
            side: "image" or "text".
        Returns:
            by what the projection must be multiplied besides: 1, but where alpha would be larger than it may be.
        Raises:
            ClipeduError: an unknown side.
        """
        if side not in SIDES:
            raise unknown_name("side", side, SIDES)
        if self.start_length is None or not (math.isfinite(length) and length > 0):
            return 1.0
        wanted = math.log(self.start_length / length)
        most = self._ranges[f"alpha_{side}"][1]
        getattr(self, f"log_alpha_{side}").fill_(min(wanted, most))
        return math.exp(max(wanted - most, 0.0))

    def watched(self) -> dict[str, Tensor]:
        """Return what is learned, as detached scalars to log.

        They are "curvature", "alpha_image" and "alpha_text", as far as they are learned.
        """
        learned = [name.removeprefix("log_") for name, _ in self.named_parameters(recurse=False)]
        return {name: self.read(name).detach() for name in learned}

    @full_precision
    def mean(self, x: Tensor) -> Tensor:
        """Return the mean of the tangent vectors x [N, D]: [D].

        Long ones count more, and the prototype has a length.
        """
        return x.mean(dim=0)

    @full_precision
    def root(self, x: Tensor) -> Tensor:
        """Return the zero vector, [D], as wide as x [N, D]."""
        return x.new_zeros(x.shape[-1])

    def saturation(self, x: Tensor, min_radius: float) -> tuple[float, Tensor]:
        """Return two sides whose ratio is the sine of the half-aperture.

        They are a number, and a size [...] that grows with |x|.
        """
        raise NotImplementedError

    @full_precision
    def half_aperture(self, x: Tensor, min_radius: float = 0.1) -> Tensor:
        """Return the angle between axis and side of the cone at apex x.

        It is in (0, pi / 2] radians, [...].

        Args:
            x: apexes, [..., D].
            min_radius: K >= 0. At 0 a cone is its axis alone, and the angle 0.

        Raises:
            ClipeduError: a `min_radius` out of range.
        """
        part, whole = self.saturation(x, checked_number("min_radius", min_radius, at_least=0))
        return arcsin_share(part, whole) if part > 0 else torch.zeros_like(whole)

    @full_precision
    def entailment(self, text: Tensor, image: Tensor, min_radius: float = 0.1) -> Tensor:
        """Return how far each image lies outside the cone of its text.

        It is in radians, [...] >= 0.

        That is max(0, exterior angle - half-aperture), with the *text* as apex.

        Args:
            text, image: matched tangent vectors, [..., D] each.
            min_radius: K >= 0. At 0 there is no cone, and the result is the exterior angle.

        Raises:
            ClipeduError: a `min_radius` out of range.
        """
        return torch.relu(self.exterior_angle(text, image) - self.half_aperture(text, min_radius))
