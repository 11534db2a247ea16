"""A step on a GPU waits for nothing, and nothing in it is elsewhere.

Tensors without numbers stand for those of the GPU, which need not be there: a look at a number of theirs is an error, and so is one that
meets a tensor of the host. Without a GPU torch computes no gradients of them; random ones take their place.
"""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from clipedu import build_optimizer
from clipedu.data.batches import batches
from clipedu.losses.memory import MemoryLoss, PerSampleLoss
from clipedu.norms import NormMonitor
from clipedu.training.averaging import WeightAverage
from clipedu.training.datasets import load_training_data
from clipedu.training.setup import prepare

GPU = torch.device("cuda")


def moved(module):
    """The module, with tensors of a GPU in place of its own."""
    for part in module.modules():
        for kept in (part._parameters, part._buffers):
            for name, value in kept.items():
                if value is not None:
                    empty = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=GPU)
                    kept[name] = nn.Parameter(empty, value.requires_grad) if kept is part._parameters else empty
    return module


@pytest.mark.parametrize(
    "changes",
    [
        {"ema_decay": 0.9, "clip_grad": 1.0},
        {"loss": "sogclr", "optimizer": "scion", "learn_temperature": True},
        {"geometry": "lorentz", "entailment": 0.2, "optimizer": "adamc"},
        {"loss": "onlineclr", "optimizer": "sgd", "image_encoder": "vit_nano_patch4_32"},
        {"foils": 1.0},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_a_step_waits_for_nothing(quick, changes, monkeypatch):
    for module in ("numerics", "lorentz"):  # the one place that waits: which pairs are near
        monkeypatch.setattr(f"clipedu.geometry.{module}.few_pairs", lambda mask: None)
    monkeypatch.setattr(PerSampleLoss, "prepare", MemoryLoss.prepare)  # row numbers are looked at on the host
    experiment = quick.replace(**changes)
    trainer = prepare(experiment, load_training_data(experiment), progress=False)
    kinds = experiment.foil_kinds if experiment.foils else ()
    batch = next(batches(trainer.pairs, batch_size=16, seed=0, epoch=0, foil_kinds=kinds))
    with FakeTensorMode(allow_non_fake_inputs=True):
        model, loss = moved(trainer.model), moved(trainer.loss)
        trainer.optimizer = build_optimizer(model, experiment.optimizer, lr=1e-3, weight_decay=0.1)
        monitor = NormMonitor(model, trainer.optimizer, minibatch=True)
        average = WeightAverage(model, 0.9) if experiment.ema_decay else None
        for step in range(2):
            seen = batch.to(GPU)
            with torch.no_grad():
                output = trainer._loss_of(*model(seen.image, seen.text), seen)
            values = [output.total, *output.terms.values(), *output.watch.values()]
            assert {value.device.type for value in values} == {"cuda"} and loss.training
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            if experiment.clip_grad:
                monitor.observe_gradients()
                nn.utils.clip_grad_norm_(model.parameters(), experiment.clip_grad)
            trainer.optimizer.step()
            if average is not None:
                average.update()
            assert monitor.latest.device.type == "cuda" and monitor.latest.shape == (3, 3), step
