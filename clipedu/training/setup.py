"""From an experiment to a `Trainer`: data, model, loss and optimizer, all from its seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from clipedu.config.experiment import Experiment
from clipedu.data.pairs import Pairs
from clipedu.data.prefetch import hold
from clipedu.inference.features import frozen_image_features, frozen_text_features
from clipedu.models import build_model
from clipedu.norms import NormMonitor
from clipedu.optim import build_optimizer
from clipedu.training.datasets import build_tokenizer, load_train
from clipedu.training.objective import build_objective, check_names
from clipedu.training.trainer import Record, Trainer
from clipedu.utils.device import pick_device


def train(experiment: Experiment) -> Iterator[Record]:
    """The training loop, step by step; nothing is written. `fit` adds a run's folder and scores.

    Raises:
        ClipeduError: a name or value in the experiment that cannot work.
        NotFinite: the loss or the gradient became NaN or infinite; names the step.
    """
    yield from prepare(experiment).run()


def prepare(experiment: Experiment, *, pairs: Pairs | None = None, tokenizer=None, progress: bool = True) -> Trainer:
    """Load the data and build model, loss and optimizer as the experiment says, all from its seed.

    Args:
        pairs, tokenizer: the training data and the tokenizer, where a caller (a grid, a resumed run) has them already.
    """
    device = pick_device(experiment.device)
    torch.manual_seed(experiment.seed)
    check_names(experiment)
    pairs = pairs or load_train(experiment)
    tokenizer = tokenizer or build_tokenizer(experiment, pairs)
    pairs.tokenize(tokenizer)
    model = build_model(experiment, tokenizer.vocab_size).to(device)
    model.tokenizer = tokenizer
    loss = build_objective(experiment, model.geometry, len(pairs)).to(device)
    optimizer = build_optimizer(
        model,
        experiment.optimizer,
        lr=experiment.lr,
        weight_decay=experiment.weight_decay,
        **experiment.optimizer_options,
    )
    of_model = set(model.parameters())
    learned = {f"loss.{name}": p for name, p in loss.named_parameters() if p not in of_model}
    if learned:  # temperature, SigLIP's bias: never decayed
        names, parameters = list(learned), list(learned.values())
        optimizer.add_param_group({"name": "loss", "params": parameters, "param_names": names, "weight_decay": 0.0})
    features: dict[str, Any] = {}
    if experiment.image_frozen:
        features["image_features"] = frozen_image_features(model, pairs, progress=progress)
    elif (held := hold(pairs, device, progress=progress)) is not None:
        features["held"] = held
    if experiment.text_frozen:
        features["text_features"] = frozen_text_features(model, pairs, progress=progress)
    monitor = NormMonitor(model, optimizer, every=experiment.norms_every, minibatch=True)
    return Trainer(experiment, device, pairs, model, loss, optimizer, monitor, features)
