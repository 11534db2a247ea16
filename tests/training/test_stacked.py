"""A stack makes the steps of its runs: each has the weights and losses that it has by itself."""

import math

import pytest
import torch

from clipedu.losses import LOSSES
from clipedu.training.datasets import load_training_data
from clipedu.training.setup import prepare, prepare_beside
from clipedu.training.stacked import Stack, runs_at_once
from clipedu.training.stacked_optimizer import STEPS
from clipedu.training.trainer_state import restore, trainer_state
from clipedu.utils.finite import NotFinite
from tests.helpers.stacks import distance, largest_distance, largest_loss_distance, side_by_side, variants

SAME = 1e-5


@pytest.fixture(scope="module")
def frozen(quick):
    return quick.replace(image_frozen=True, text_frozen=True, epochs=3)


@pytest.fixture(scope="module")
def data(frozen):
    return load_training_data(frozen)


@pytest.mark.parametrize(
    ("loss", "optimizer"), [*((loss, o) for loss in LOSSES for o in ("adamw", "sgd")), *(("clip", o) for o in STEPS)]
)
def test_each_run_is_its_own_single_run(frozen, data, loss, optimizer):
    both = side_by_side(variants(frozen, loss, optimizer), data)
    assert largest_distance(both) < SAME
    assert largest_loss_distance(both) < SAME
    weights = [trainer.model.image_projection.weight for trainer in both.stack.trainers]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])


@pytest.mark.parametrize(
    "changes",
    [
        {"learn_temperature": True},
        {"learn_temperature": True, "loss": "sogclr", "loss_options": {"gamma_schedule": "cosine", "scale": "clip"}},
        {"loss": "sogclr", "loss_options": {"form": "course"}},
        {"loss": "onlineclr", "loss_options": {"form": "course", "gamma_schedule": "cosine"}},
        {"geometry": "euclidean-inner", "temperature": 0.5, "geometry_options": {"learn_alpha": True}},
        {"optimizer": "adamw", "optimizer_options": {"decay_law": "independent"}},
        {"optimizer": "sgdc", "lr": 0.05, "optimizer_options": {"heads": []}},
        {"optimizer": "sgd", "lr": 0.05, "optimizer_options": {"momentum": 0.0, "nesterov": False}},
        {"optimizer": "sgdw", "lr": 0.05, "optimizer_options": {"nesterov": False, "dampening": 0.3}},
    ],
    ids=str,
)
def test_other_settings_too(frozen, data, changes):
    base = frozen.replace(**changes)
    both = side_by_side([base, base.replace(lr=base.lr / 3, weight_decay=0.3), base.replace(warmup=0.5)], data)
    assert largest_distance(both) < SAME and largest_loss_distance(both) < SAME
    for one, other in zip(both.records[1], both.stacked, strict=True):
        for name, value in one.watch.items():
            assert other.watch[name][1] == pytest.approx(value, rel=SAME)


def test_numbers_of_the_loss_that_differ(frozen, data):
    base = frozen.replace(loss="sogclr", learn_temperature=True)
    many = [base.replace(loss_options={"gamma_schedule": "cosine", "gamma": g, "rho": 2 + g}) for g in (0.2, 0.5, 1.0)]
    both = side_by_side(many, data)
    assert largest_distance(both) < SAME
    assert {name: float(value[2]) for name, value in both.stacked[0].watch.items()}["gamma"] == 1.0


def test_seeds_have_their_own_batches_and_features(frozen, data):
    both = side_by_side([frozen.replace(seed=seed, loss=loss) for seed in (0, 1, 0) for loss in ("sogclr",)], data)
    assert largest_distance(both) < SAME and largest_loss_distance(both) < SAME
    assert not torch.equal(both.alone[0].precomputed.image, both.alone[1].precomputed.image)
    assert both.stacked[0].loss[0] == both.stacked[0].loss[2] != both.stacked[0].loss[1]


def test_the_state_of_each_optimizer_is_that_of_its_own_run(frozen, data):
    for optimizer in ("adamw", "sgd", "lion"):
        both = side_by_side(variants(frozen, "clip", optimizer), data)
        for one, other in zip(both.alone, both.stack.trainers, strict=True):
            ours, theirs = one.optimizer.state_dict(), other.optimizer.state_dict()
            assert ours["param_groups"] == theirs["param_groups"] and ours["state"].keys() == theirs["state"].keys()
            for number, state in ours["state"].items():
                assert state.keys() == theirs["state"][number].keys()
                assert all(
                    distance(v, theirs["state"][number][k]) < 1e-4 for k, v in state.items() if torch.is_tensor(v)
                )


def test_a_run_goes_on_by_itself_from_where_the_stack_left_it(frozen, data):
    """What a stack gives its trainers is all that the next step needs."""
    experiments = variants(frozen, "sogclr", "adamw")
    whole = [prepare(ex, data, progress=False) for ex in experiments]
    stack = Stack([prepare_beside(whole[0], ex) for ex in experiments])
    for record in stack.run():
        if record.step == 4:
            break
    stack.part_ways()
    for one, part in zip(whole, stack.trainers, strict=True):
        again = prepare(one.experiment, data, progress=False)
        restore(again, part.model.state_dict(), trainer_state(part))
        assert again.step == 5 and len(list(again.run())) == again.steps - 5
        list(one.run())
        for (name, value), other in zip(one.model.state_dict().items(), again.model.state_dict().values(), strict=True):
            if value.is_floating_point():
                assert distance(value, other) < SAME, name


def test_a_run_that_diverges_leaves_the_others_alone(frozen, data):
    """It fails at the step at which it fails by itself, with the same words."""
    good = frozen.replace(loss="vicreg", optimizer="sgd", lr=0.001, warmup=0.0)
    bad = good.replace(lr=100.0)
    first = prepare(good, data, progress=False)
    alone, records = prepare_beside(first, bad), []
    with pytest.raises(NotFinite) as error:
        records.extend(alone.run())
    stack = Stack([prepare_beside(first, ex) for ex in (good, bad, good.replace(lr=0.002))])
    stacked = list(stack.run())
    stack.part_ways()
    assert list(stack.failed) == [1]
    steps, why = stack.failed[1]
    assert why == str(error.value) and steps == alone.step - 1
    assert len(stacked) == stack.steps and all(math.isfinite(record.loss[2]) for record in stacked)
    single = prepare_beside(first, good)
    list(single.run())
    assert distance(single.model.text_projection.weight, stack.trainers[0].model.text_projection.weight) < SAME


def test_memory_is_bounded():
    assert runs_at_once(128) == 32
    assert runs_at_once(4096) == 1
    assert runs_at_once(16) * 16**2 <= 2**19
