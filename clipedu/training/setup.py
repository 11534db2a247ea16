"""From an experiment and its data to a `Trainer`.

Model, loss, optimizer and monitor all follow from the experiment's seed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from clipedu.config.experiment import Experiment
from clipedu.data.batches import Precomputed
from clipedu.data.pairs import Pairs
from clipedu.data.prefetch import hold
from clipedu.inference.features import frozen_image_features, frozen_text_features
from clipedu.losses import Loss
from clipedu.models import DualEncoder, build_model
from clipedu.norms import NormMonitor
from clipedu.optim import build_optimizer
from clipedu.optim.lr_scales import tower_scales
from clipedu.training.averaging import WeightAverage
from clipedu.training.datasets import TrainingData, load_training_data
from clipedu.training.distributed import check_shared, synchronise_batch_norms
from clipedu.training.memory import check_fits, check_model_memory, memory_named, step_needs
from clipedu.training.objective import build_objective
from clipedu.training.records import Record
from clipedu.training.speed import checkpoint_encoders, compile_encoders
from clipedu.training.start_lengths import set_start_lengths
from clipedu.training.starting import fit_for_training, open_start
from clipedu.training.trainer import Trainer
from clipedu.training.trial import try_step
from clipedu.utils.device import pick_device
from clipedu.utils.ranks import first_alone, joined


def train(experiment: Experiment) -> Iterator[Record]:
    """Train step by step and yield a record of each; nothing is written.

    `fit` adds a run's folder and scores.

    Raises:
        ClipeduError: a name or value in the experiment that cannot work.
        NotFinite: the loss or the gradient became NaN or infinite; names the step.
        OutOfMemory: the memory is not enough; names the settings to halve.
    """
    with joined(), memory_named(experiment):
        check_shared(experiment)
        yield from prepare(experiment, load_training_data(experiment)).run()


def prepare(
    experiment: Experiment,
    data: TrainingData,
    *,
    saved_text: Path | None = None,
    start: DualEncoder | None = None,
    progress: bool = True,
) -> Trainer:
    """Build model, loss and optimizer of an experiment, all from its seed.

    Args:
        experiment: what to train.
        data: its pairs and tokenizer: `load_training_data(experiment)`, or `load_data(experiment)`.
        saved_text: of `build_model`, where a run goes on.
        start: the model to train, nothing of it frozen, where a run goes on that has started from a model; None opens the
            experiment's `start`, or builds a model.
        progress: show progress bars where features of a frozen encoder are computed.
    Returns:
        a trainer at step 0.
    Raises:
        ClipeduError: a name, option or device that is not available, a first step that fails, or too little memory.
    """
    device = pick_device(experiment.device)
    torch.manual_seed(experiment.seed)
    pairs, tokenizer = data.train, data.tokenizer
    check_model_memory(experiment, tokenizer.vocab_size, len(pairs), device)
    with first_alone():
        pairs.tokenize(tokenizer)
    if experiment.start is None:
        model = build_model(
            experiment, tokenizer.vocab_size, special_tokens=tokenizer.special_tokens, saved_text=saved_text
        )
    else:
        model = open_start(experiment) if start is None else start
        model.tokenizer = None  # until the step is tried, with a copy
    fit_for_training(model, experiment)
    model = model.to(device)
    set_start_lengths(model, experiment, pairs)
    if experiment.checkpointing:
        checkpoint_encoders(model, experiment)
    model = synchronise_batch_norms(model)
    loss = build_objective(experiment, model.geometry, len(pairs)).to(device)
    build = partial(_optimizer, experiment)
    state, pair, unused = try_step(experiment, model, loss, build, tokenizer.vocab_size)
    needs = step_needs(experiment, model, loss, state, pair)
    check_fits(needs, device)
    if experiment.compile != "none":
        compile_encoders(model, experiment)
    model.tokenizer = tokenizer
    optimizer = _optimizer(experiment, model, loss)
    precomputed = _precompute(experiment, model, pairs, progress=progress)
    monitor = NormMonitor(model, optimizer, every=experiment.norms_every, minibatch=True)
    average = None if experiment.ema_decay is None else WeightAverage(model, experiment.ema_decay)
    return Trainer(experiment, device, pairs, model, loss, optimizer, monitor, precomputed, average, unused)


def prepare_beside(trainer: Trainer, experiment: Experiment) -> Trainer:
    """Build the trainer of an experiment that has the same model.

    Its frozen encoders and their features are those of the other trainer; all that is trained is its own, and as `prepare`
    would make it.

    Args:
        trainer: at step 0.
        experiment: with the same data, encoders, geometry and seed as the trainer's; objective, optimizer and the length of the run
            may be others.
    Raises:
        ClipeduError: a name or option that cannot work.
    """
    torch.manual_seed(experiment.seed)
    model = copy.copy(trainer.model)
    shared = {f"{side}_encoder" for side in model.frozen}
    children = dict(trainer.model.named_children())
    vars(model)["_modules"] = {name: m if name in shared else copy.deepcopy(m) for name, m in children.items()}
    loss = build_objective(experiment, model.geometry, len(trainer.pairs)).to(trainer.device)
    optimizer = _optimizer(experiment, model, loss)
    monitor = NormMonitor(model, optimizer, every=experiment.norms_every, minibatch=True)
    average = None if experiment.ema_decay is None else WeightAverage(model, experiment.ema_decay)
    parts = (trainer.device, trainer.pairs, model, loss, optimizer, monitor, trainer.precomputed, average)
    return Trainer(experiment, *parts, trainer.unused)


def _optimizer(experiment: Experiment, model: DualEncoder, loss: Loss) -> torch.optim.Optimizer:
    """Build the optimizer of the model.

    What the loss learns (temperature, SigLIP's bias) is in a group that is never decayed.
    """
    ex = experiment
    scales = tower_scales(model, image=ex.image_lr_scale, text=ex.text_lr_scale, layer_decay=ex.layer_decay)
    optimizer = build_optimizer(
        model, ex.optimizer, lr=ex.lr, weight_decay=ex.weight_decay, lr_scales=scales, **ex.optimizer_options
    )
    of_model = set(model.parameters())
    learned = {f"loss.{name}": p for name, p in loss.named_parameters() if p not in of_model}
    if learned:
        names, parameters = list(learned), list(learned.values())
        optimizer.add_param_group({"name": "loss", "params": parameters, "param_names": names, "weight_decay": 0.0})
    return optimizer


def _precompute(experiment: Experiment, model: DualEncoder, pairs: Pairs, *, progress: bool) -> Precomputed:
    """Precompute what frozen encoders return, or hold the pixels.

    Without frozen image features all pixels are copied to the device, where they fit.

    All pixels are copied to the device where they fit and no features replace them.
    """
    image = None if experiment.image_frozen else hold(pairs, model.device, progress=progress)
    with first_alone():
        if experiment.image_frozen:
            image = frozen_image_features(model, pairs, progress=progress)
        text = frozen_text_features(model, pairs, progress=progress) if experiment.text_frozen else None
    return Precomputed(image, text)
