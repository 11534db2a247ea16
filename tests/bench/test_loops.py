"""The peers' loops train the towers on the same pairs."""

from __future__ import annotations

import copy

import pytest
import torch

from clipedu.bench.loops import bare_loop, course_loop, open_clip_loop
from clipedu.bench.train import Case, trainer_of

SMALL = Case({"train_size": 20, "batch_size": 8, "epochs": 2, "device": "cpu", "augment": "crop"}, {})


@pytest.fixture(scope="module")
def trainer():
    pytest.importorskip("open_clip")
    return trainer_of(SMALL)


@pytest.mark.parametrize("loop", [bare_loop, open_clip_loop, course_loop])
def test_a_loop_trains_without_end(trainer, loop):
    if loop is not bare_loop:
        pytest.importorskip("torchvision")
    model = copy.deepcopy(trainer.model)
    before = {name: w.clone() for name, w in model.state_dict().items()}
    steps = loop(trainer.experiment, trainer.pairs, model, trainer.precomputed, 0.05)
    for _ in range(3):  # one more than an epoch
        next(steps)
    after = model.state_dict()
    moved = [name for name, w in model.named_parameters() if not torch.equal(before[name], after[name])]
    assert any(name.startswith("image_encoder") for name in moved) and any(
        name.startswith("text_enc") for name in moved
    )
    assert all(torch.isfinite(w).all() for w in after.values())
    assert after["image_encoder.bn1.num_batches_tracked"] == 3


def test_the_bare_loop_takes_features_of_frozen_encoders():
    pytest.importorskip("open_clip")
    trainer = trainer_of(SMALL, {"augment": "none", "image_frozen": True, "text_frozen": True})
    model = copy.deepcopy(trainer.model)
    next(bare_loop(trainer.experiment, trainer.pairs, model, trainer.precomputed, 0.05))
    assert not torch.equal(model.image_projection.weight, trainer.model.image_projection.weight)
    pairs_of_weights = zip(model.image_encoder.parameters(), trainer.model.image_encoder.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs_of_weights)
