"""Lengths of embeddings at the start, where a geometry has a root.

The formulas of these geometries are made for tangent vectors about as long as 1. In the papers a last LayerNorm in each encoder sees to
that: features of unit variance, projections with standard deviation width^-1/2, alpha = 1 / sqrt(D). Other encoders' features are
smaller or larger, so alpha is set by what they measure: the first pairs of training are encoded once before the first step, as
that step would, and alpha makes the mean length of either modality `start_length` (1).

It is the same for every batch size, number of processes (the first one measures) and precision: it takes the same `ROWS` pairs in float32, and
changes neither weights, statistics of batch norms nor random numbers. A checkpoint holds alpha, so a run that goes on has its own; a
run that starts from a model keeps that model's.
"""

from __future__ import annotations

from contextlib import closing

import torch

from clipedu.config.experiment import Experiment
from clipedu.data.augment import augment
from clipedu.data.batches import batches
from clipedu.data.pairs import Pairs
from clipedu.geometry.rooted import Rooted
from clipedu.models import DualEncoder
from clipedu.training.gradient_cache import statistics_kept
from clipedu.utils.ranks import of_first

ROWS = 64  # pairs that are encoded, or all there are


@torch.no_grad()
def set_start_lengths(model: DualEncoder, experiment: Experiment, pairs: Pairs) -> None:
    """Set alpha of both modalities by the first pairs of training.

    Nothing is done for a geometry that has no alpha or a `start_length` of None, nor for a run that starts from a model.

    Args:
        model: as it is made, on its device; changed in place.
        experiment: of the run.
        pairs: to train on, tokenized.
    """
    geometry = model.geometry
    if not isinstance(geometry, Rooted) or geometry.start_length is None or experiment.start is not None:
        return
    lengths = of_first(lambda: _first_lengths(model, experiment, pairs))
    for side, projection in (("image", model.image_projection), ("text", model.text_projection)):
        more = geometry.start_with(lengths[side], side)
        for parameter in projection.parameters() if more != 1 else ():
            parameter.mul_(more)


def _first_lengths(model: DualEncoder, experiment: Experiment, pairs: Pairs) -> dict[str, float]:
    """Return the mean lengths of what the projections make of the first pairs of the first epoch, by modality."""
    was_training = model.training
    rows = min(ROWS, len(pairs))
    with closing(batches(pairs, batch_size=rows, seed=experiment.seed, epoch=0)) as source:
        batch = next(source).to(model.device)
    pixels = augment(batch.image[0], experiment.augment, seed=experiment.seed, step=0, first=0, of=rows)
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []), statistics_kept(model.train()):
        torch.manual_seed(experiment.seed)
        image = model.image_projection(model.image_features(pixels))
        text = model.text_projection(model.text_features(*batch.text))
    model.train(was_training)
    return {side: x.double().norm(dim=-1).mean().item() for side, x in (("image", image), ("text", text))}
