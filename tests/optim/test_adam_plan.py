"""The plan holds as long as nothing moves, and covers every weight once."""

import pytest
import torch

from clipedu.optim.adam_pieces import ALIGN
from clipedu.optim.adam_plan import SMALL, Plan, plain, portions


def made():
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape)) for shape in ((3, 4), (SMALL + 5,), (7,))]
    optimizer = torch.optim.AdamW(weights, lr=0.1)
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    return weights, optimizer, Plan(optimizer, [weights], 1.0)


def test_it_steps_as_torch_does():
    weights, optimizer, plan = made()
    _, other, _ = made()
    plan.run(optimizer.param_groups, None)
    other.step()
    for weight, torchs in zip(weights, other.param_groups[0]["params"], strict=True):
        assert torch.equal(weight, torchs)
        assert optimizer.state[weight]["step"] == 2


def unfreeze(weights, optimizer):
    optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})


@pytest.mark.parametrize(
    "change",
    [
        lambda weights, optimizer: setattr(weights[0], "grad", None),
        lambda weights, optimizer: setattr(weights[1], "data", weights[1].data.clone()),
        lambda weights, optimizer: optimizer.load_state_dict(optimizer.state_dict()),
        lambda weights, optimizer: optimizer.param_groups[0].update(amsgrad=True),
        lambda weights, optimizer: torch.set_num_threads(torch.get_num_threads() + 1),
        unfreeze,
    ],
    ids=["no gradient", "moved", "other state", "an option", "threads", "a group"],
)
def test_it_no_longer_holds(change):
    weights, optimizer, plan = made()
    assert plan.holds(optimizer)
    threads = torch.get_num_threads()
    try:
        change(weights, optimizer)
        assert not plan.holds(optimizer)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("option", [{"amsgrad": True}, {"maximize": True}, {"capturable": True}, {"eps": 0.0}])
def test_groups_with_other_options_are_not_plain(option):
    group = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))], lr=0.1).param_groups[0]
    assert plain(group) and not plain(group | option)


def test_portions_have_room_for_their_padding():
    tensors = [torch.empty(size) for size in (1, 64, 65, 10, 130)]
    found = portions(tensors, 3 * ALIGN)
    assert [[len(tensor) for tensor in part] for part in found] == [[1, 64], [65, 10], [130]]
