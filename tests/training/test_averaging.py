"""The moving average of the weights: as written down, with buffers, without what is frozen, and exact when it goes on."""

import copy

import pytest
import torch
from torch import nn

from clipedu import ClipeduError
from clipedu.inference.embed import embed_images
from clipedu.models.dual_encoder import DualEncoder
from clipedu.training.averaging import WeightAverage
from clipedu.training.datasets import load_training_data
from clipedu.training.setup import prepare
from clipedu.training.trainer_state import restore, trainer_state


def trainer_of(experiment):
    return prepare(experiment, load_training_data(experiment), progress=False)


def test_weights_and_statistics_are_averaged_and_all_else_is_copied(quick):
    trainer = trainer_of(quick.replace(ema_decay=0.75))
    expected: dict = {}
    for _ in trainer.run():
        for name, tensor in trainer.model.state_dict().items():
            moves = name in dict(trainer.model.named_parameters()) or "running" in name
            expected[name] = expected[name].lerp(tensor, 0.25) if name in expected and moves else tensor.clone()
    averaged = trainer.average.model().state_dict()
    assert averaged.keys() == expected.keys() == trainer.model.state_dict().keys()
    for name, tensor in averaged.items():
        torch.testing.assert_close(tensor, expected[name], msg=name)
    assert any("running_var" in name for name in averaged) and trainer.average.state() == {"steps": 8}
    different = [name for name, tensor in trainer.model.state_dict().items() if not torch.equal(tensor, averaged[name])]
    assert any("running_var" in name for name in different) and len(different) > 20


def test_the_training_does_not_see_it(quick):
    models = []
    for decay in (None, 0.9):
        trainer = trainer_of(quick.replace(ema_decay=decay))
        list(trainer.run())
        models.append(trainer.model.state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


def test_what_is_frozen_is_shared_and_not_kept_twice(quick):
    trainer = trainer_of(quick.replace(image_frozen=True, ema_decay=0.5))
    list(trainer.run())
    model = trainer.average.model()
    assert model.image_encoder is trainer.model.image_encoder and model.text_encoder is not trainer.model.text_encoder
    assert not any(name.startswith("image_encoder") for name in trainer.average.tensors())
    pairs = trainer.pairs
    ours, theirs = embed_images(model, pairs), embed_images(trainer.model, pairs)
    assert ours.shape == theirs.shape and not torch.allclose(ours, theirs)
    assert trainer.model.image_projection is not model.image_projection


def test_masks_and_counts_stay_what_they_are():
    """An average of -inf and -inf is nan, and one of whole numbers is cut to the number below: PyTorch's would do both."""

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
            self.register_buffer("positions", torch.arange(512))

    class Model(nn.Module):
        frozen = ()

        def __init__(self):
            super().__init__()
            self.image_encoder = Encoder()

    model = Model()
    average = WeightAverage(model, 0.999)
    for _ in range(9):
        average.update()
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in average.tensors().items())


def test_it_goes_on_exactly(quick):
    trainer = trainer_of(quick.replace(ema_decay=0.9))
    loop = trainer.run()
    for _ in range(3):
        next(loop)
    kept = copy.deepcopy((trainer.model.state_dict(), trainer_state(trainer), trainer.average.tensors()))
    list(loop)
    again = trainer_of(quick.replace(ema_decay=0.9))
    restore(again, kept[0], kept[1], averaged=kept[2])
    list(again.run())
    ours, theirs = again.average.tensors(), trainer.average.tensors()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs) and again.average.state() == {"steps": 8}
    with pytest.raises(ClipeduError, match="the checkpoint has no averaged weights"):
        restore(again, kept[0], kept[1])
    with pytest.raises(ClipeduError, match="do not fit the run's model"):
        restore(again, kept[0], kept[1], averaged={"other": torch.ones(1)})


def test_an_encoder_that_cannot_be_copied_is_named(quick, monkeypatch):
    trainer = trainer_of(quick)

    def refuse(self, memo):
        raise TypeError("cannot pickle this")

    monkeypatch.setattr(type(trainer.model.image_encoder), "__deepcopy__", refuse, raising=False)
    with pytest.raises(
        ClipeduError, match=r"^ema_decay=0\.9 needs a copy of the model, which cannot be copied: cannot pickle this$"
    ):
        WeightAverage(trainer.model, 0.9)
    assert isinstance(trainer.model, DualEncoder)
