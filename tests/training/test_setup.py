"""Setting a run up: once each, from the data that is given, all from the seed."""

import pytest
import torch

from clipedu import ClipeduError
from clipedu.training import datasets, objective, setup
from clipedu.training.datasets import load_training_data
from clipedu.training.setup import prepare, prepare_beside, train


def counted(monkeypatch, module, name) -> list:
    """Replace a function of a module by itself, counting its calls."""
    calls, original = [], getattr(module, name)

    def call(*args, **kwargs):
        calls.append(name)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, call)
    return calls


def test_each_part_is_built_once(quick, monkeypatch):
    """One objective is tried before the data is read, one sized without memory, one built; data and tokenizer are made once."""
    objectives, read = counted(monkeypatch, objective, "build_loss"), counted(monkeypatch, datasets, "load_pairs")
    tokenizers = counted(monkeypatch, datasets, "build_tokenizer")
    models = counted(monkeypatch, setup, "build_model")
    next(train(quick))
    assert (len(objectives), len(read), len(tokenizers), len(models)) == (3, 1, 1, 1)


def test_a_trainer_takes_the_data_it_is_given(quick, monkeypatch):
    data = load_training_data(quick)
    monkeypatch.setattr(datasets, "load_pairs", None)
    trainer = prepare(quick, data)
    assert trainer.pairs is data.train and trainer.model.tokenizer is data.tokenizer
    assert (trainer.step, trainer.steps) == (0, 8)


def test_the_same_seed_gives_the_same_weights(quick):
    data = load_training_data(quick)
    one, same, other = (prepare(e, data).model.state_dict() for e in (quick, quick, quick.replace(seed=1)))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["image_projection.weight"], other["image_projection.weight"])


def test_what_a_loss_learns_is_in_a_group_without_decay(quick):
    trainer = prepare(quick.replace(learn_temperature=True, weight_decay=0.5), load_training_data(quick))
    (group,) = (group for group in trainer.optimizer.param_groups if group.get("name") == "loss")
    assert group["param_names"] == ["loss.logit_scale"] and group["weight_decay"] == 0.0
    assert not any(g.get("name") == "loss" for g in prepare(quick, load_training_data(quick)).optimizer.param_groups)


@pytest.mark.parametrize("side", ["image", "text"])
def test_a_frozen_encoder_is_run_once(quick, side):
    experiment = quick.replace(**{f"{side}_frozen": True})
    precomputed = prepare(experiment, load_training_data(experiment), progress=False).precomputed
    assert (precomputed.image is None) is (side == "text") and (precomputed.text is None) is (side == "image")


def test_a_device_that_is_not_there(quick):
    with pytest.raises(ClipeduError, match="device='cuda:99'"):
        prepare(quick.replace(device="cuda:99"), load_training_data(quick))


def test_a_trainer_beside_another_is_what_it_would_be_by_itself(quick):
    """Its encoders are shared; what is trained is its own, and at its start."""
    base = quick.replace(image_frozen=True, text_frozen=True)
    data = load_training_data(base)
    first, other = prepare(base, data, progress=False), base.replace(loss="siglip", optimizer="sgd", lr=0.1, epochs=1)
    beside, alone = prepare_beside(first, other), prepare(other, data, progress=False)
    assert beside.model.text_encoder is first.model.text_encoder and beside.precomputed is first.precomputed
    assert beside.model.text_projection is not first.model.text_projection and beside.steps == 4
    assert beside.loss.geometry is beside.model.geometry is not first.model.geometry
    before = first.model.text_projection.weight.clone()
    assert [r.loss for r in beside.run()] == [r.loss for r in alone.run()]
    assert torch.equal(beside.model.text_projection.weight, alone.model.text_projection.weight)
    assert torch.equal(first.model.text_projection.weight, before)
