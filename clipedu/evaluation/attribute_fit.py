"""How much of each attribute a linear map finds in embeddings: R².

    shape, colour, size   which of them are in the picture (a picture can have two)
    background            which
    place                 which of nine (scenes of one object)
    relation              how A stands to B, A the object whose colour comes first in the list (scenes of two objects)

R² = 1 - sum of squared errors / sum of squared deviations from the mean, over all columns of the one-hot (or two-hot) target. A ridge
regression is fitted on one half of the scenes and tested on the other, and the other way round; its strength is chosen within the half
it is fitted on. 1: the attribute is a linear function of the embedding. 0, or a little below: a linear map knows nothing of it, which
does not say that the embedding does not.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from clipedu.data.scenes.attributes import Attributes
from clipedu.data.scenes.captions import PLACES, RELATIONS
from clipedu.data.scenes.drawing import BACKGROUNDS, COLOURS, SHAPES, SIZES
from clipedu.utils.errors import ClipeduError

ATTRIBUTES = ("shape", "colour", "size", "background", "place", "relation")
LEAST = 20  # scenes
STRENGTHS = np.logspace(-2, 4, 13)  # of the ridge, for standardised features


def attribute_targets(attributes: Attributes) -> dict[str, tuple[Tensor, Tensor]]:
    """Return for each attribute which scenes have it, and what it is.

    Returns:
        name of `ATTRIBUTES` -> rows (int64 [M]) and target (float64 [M, values], 0 or 1).
    """
    a, everywhere = attributes, torch.arange(len(attributes))
    exists = a.exists().double()[:, :, None]

    def present(value: Tensor, count: int) -> tuple[Tensor, Tensor]:
        return everywhere, (one_hot(value.clamp(min=0), count) * exists).amax(1)

    two, one = (a.count == 2).nonzero()[:, 0], (a.count == 1).nonzero()[:, 0]
    relation = torch.where(a.colour[two, 1] < a.colour[two, 0], a.relation[two] ^ 1, a.relation[two])
    return {
        "shape": present(a.shape, len(SHAPES)),
        "colour": present(a.colour, len(COLOURS)),
        "size": present(a.size, len(SIZES)),
        "background": (everywhere, one_hot(a.background, len(BACKGROUNDS)).double()),
        "place": (one, one_hot(a.place[one, 0], len(PLACES)).double()),
        "relation": (two, one_hot(relation, len(RELATIONS)).double()),
    }


def attribute_fit(embeddings: Tensor, attributes: Attributes) -> dict[str, float]:
    """Compute R² of each attribute on embeddings of the same scenes.

    Args:
        embeddings: [N, D], of images or captions.
        attributes: of the N scenes.
    Returns:
        name of `ATTRIBUTES` -> R², at most 1; without those that fewer than 20 scenes have.
    Raises:
        ClipeduError: as many embeddings as scenes are not given.
    """
    if len(embeddings) != len(attributes):
        raise ClipeduError(f"{len(embeddings)} embeddings and {len(attributes)} scenes: give one embedding a scene")
    x = embeddings.detach().double().cpu().numpy()
    return {
        name: _r2(x[rows.numpy()], target.numpy())
        for name, (rows, target) in attribute_targets(attributes).items()
        if len(rows) >= LEAST
    }


def _r2(x: np.ndarray, y: np.ndarray) -> float:
    """Return R² over two halves, each predicted from the other."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    error = total = 0.0
    for fold in (0, 1):
        test = np.arange(len(x)) % 2 == fold
        model = make_pipeline(StandardScaler(), RidgeCV(STRENGTHS)).fit(x[~test], y[~test])
        error += float(((model.predict(x[test]) - y[test]) ** 2).sum())
        total += float(((y[test] - y[~test].mean(0)) ** 2).sum())
    return 1 - error / total if total > 0 else 0.0
