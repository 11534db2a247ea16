"""`Encoders`: trainers of many experiments that share frozen encoders."""

from __future__ import annotations

import dataclasses
import json

import torch

from clipedu.config.experiment import HOW, Experiment
from clipedu.data.batches import Precomputed
from clipedu.training.datasets import Data
from clipedu.training.setup import prepare, prepare_beside
from clipedu.training.stackable import OWN
from clipedu.training.trainer import Trainer
from clipedu.utils.errors import ClipeduError, quoted

_OF_A_RUN = {
    *OWN,
    *HOW,
    *("loss", "learn_temperature", "optimizer", "batch_size", "epochs", "precision"),
} - {"seed"}


class Encoders:
    """The frozen encoders of experiments and their features, made once.

    Args:
        progress: show bars where features are computed.
    """

    def __init__(self, *, progress: bool):
        self._progress = progress
        self._first: dict[tuple[int, str], Trainer] = {}

    def trainer(self, experiment: Experiment, data: Data) -> Trainer:
        """Return a trainer of an experiment, as `prepare` makes it.

        Args:
            experiment: both its encoders are frozen.
            data: its sets and tokenizer.
        Raises:
            ClipeduError: as `prepare`, or a model to start from whose projection is not linear.
        """
        settings = {name: value for name, value in dataclasses.asdict(experiment).items() if name not in _OF_A_RUN}
        key = id(data), json.dumps(settings, sort_keys=True)
        if key not in self._first:
            first = prepare(experiment, data, progress=self._progress)
            for name in ("image_projection", "text_projection"):
                if not isinstance(getattr(first.model, name), torch.nn.Linear):
                    raise ClipeduError(
                        f"start={quoted(experiment.start)} cannot be in a stack, which trains linear projections: its {name} is none. "
                        "Leave it out, and train it with clipedu.fit"
                    )
            first.model.remembered = {}
            first.precomputed = self._known(first.precomputed)
            self._first[key] = first
        return prepare_beside(self._first[key], experiment)

    def forget(self) -> None:
        """Drop what was remembered for scores."""
        for first in self._first.values():
            if first.model.remembered is not None:
                first.model.remembered.clear()

    def _known(self, found: Precomputed) -> Precomputed:
        """Return equal features that are held already, as of pretrained encoders with another seed, or else these."""
        for first in self._first.values():
            image, text = first.precomputed.image, first.precomputed.text
            if image is None or text is None or found.image is None or found.text is None:
                continue
            if torch.equal(image, found.image) and all(map(torch.equal, text, found.text)):
                return first.precomputed
        return found
