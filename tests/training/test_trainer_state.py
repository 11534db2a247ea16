"""What a run goes on from has to fit it."""

import math

import pytest
import torch

from clipedu import ClipeduError
from clipedu.training.datasets import load_training_data
from clipedu.training.setup import prepare
from clipedu.training.trainer_state import restore, trainer_state


def ready(experiment):
    return prepare(experiment, load_training_data(experiment), progress=False)


def test_a_state_that_does_not_fit_is_named(quick):
    trainer = ready(quick)
    for _ in zip(range(2), trainer.run(), strict=False):
        pass
    weights, state = trainer.model.state_dict(), trainer_state(trainer)
    weights = {name: tensor.clone() for name, tensor in weights.items()}

    def message(**changes):
        fresh = ready(quick)
        with pytest.raises(ClipeduError) as caught:
            restore(fresh, weights, {**state, **changes}, "step-2")
            next(fresh.run())
        return str(caught.value)

    optimizer = state["optimizer"]
    assert message(step=99).startswith("the state in step-2 does not fit the run: step 99 of 8")
    assert "random state of 3 bytes" in message(random=torch.zeros(3, dtype=torch.uint8))
    assert message(random=torch.zeros_like(state["random"])).startswith(
        "the random state in step-2 does not fit the run"
    )
    assert message(loss={"u": torch.ones(1)}) == (
        "the loss in step-2 does not fit that of the run: the tensor 'u' is not expected"
    )
    fewer = {**optimizer, "param_groups": optimizer["param_groups"][:1]}
    assert message(optimizer=fewer).startswith("the optimizer's state in step-2 does not fit the run: ")
    for spoilt in ({"exp_avg": torch.ones(3)}, {}, {**optimizer["state"][0], "exp_avg_sq": None}):
        of_one = {**optimizer, "state": {**optimizer["state"], 0: {"step": torch.tensor(2.0), **spoilt}}}
        assert message(optimizer=of_one).startswith("the optimizer's state in step-2 does not fit the run: ")
    moments = {**optimizer["state"][0], "exp_avg": optimizer["state"][0]["exp_avg"] * math.nan}
    spoilt = {**optimizer, "state": {**optimizer["state"], 0: moments}}
    assert message(optimizer=spoilt).startswith("step-2 cannot be used: the optimizer's 'exp_avg of image_encoder.")
    weights["text_projection.weight"] = torch.ones(3)
    assert "the weights in step-2 do not fit the run's model: the tensor 'text_projection.weight' is [3" in message()
