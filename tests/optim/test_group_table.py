"""The table of groups: what is known of each, and what its decay was measured to take."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from clipedu.optim import build_optimizer, describe_groups

HEADINGS = ["group", "tensors", "parameters", "weight decay", "law", "decay", "lr * decay", "measured", "why"]


class Attention(nn.Module):
    """Weights whose names do not end in "weight", and gains whose names do."""

    def __init__(self):
        super().__init__()
        self.qkv_w = nn.Parameter(torch.ones(12, 4))
        self.heads = nn.Parameter(torch.ones(3, 4, 4))
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.LayerNorm(4)
        self.image_projection = nn.Linear(4, 2)


def table(name: str, model: nn.Module | None = None, **options) -> dict[str, list[str]]:
    """Group -> the other cells of its row."""
    optimizer = build_optimizer(model or Attention(), name, lr=0.1, weight_decay=0.02, **options)
    rows = [re.split(r"  +", line) for line in describe_groups(optimizer).splitlines()]
    assert rows[0] == HEADINGS
    return {row[0]: row[1:] for row in rows[1:]}


BODY, HEAD = "two or more axes", "output layer: its steps aren't independent of its weights"
REST = "fewer than two axes: biases, norms, scalars"


def test_the_table():
    rest = ["5", str(12 + 4 + 8 + 2), "0", "-", "none", "0", "0", REST]
    total = ["10", str(168 + 26)]
    body, all_of_it, one = ["4", "160", "0.02"], ["5", "168", "0.02"], ["1", "8", "0.02"]
    taken = ["0.002", "0.002"]
    constant, coupled = ["constant", "decoupled", *taken], ["coupled L2", "coupled", "0.002", "0"]
    assert table("adamw") == {"decayed": [*all_of_it, *constant, BODY], "not decayed": rest, "total": total}
    for name in ("adam", "sgd", "rmsprop", "adagrad"):
        assert table(name) == {"decayed": [*all_of_it, *coupled, BODY], "not decayed": rest, "total": total}, name
    corrected, head = ["corrected", "decoupled", *taken], [*one, *constant, HEAD]
    expected = {"decayed": [*body, *corrected, BODY], "head": head, "not decayed": rest, "total": total}
    assert table("adamc") == expected
    assert table("adamw", decay_law="independent")["decayed"] == [*body, "independent", "decoupled", *taken, BODY]
    assert table("adamc", heads=())["decayed"] == [*all_of_it, *corrected, BODY]
    scionc = table("scionc")
    assert scionc["spectral, decayed"] == ["1", "48", "0.02", *corrected, BODY]
    assert scionc["head auto, decayed"] == head
    assert table("scion")["head auto, decayed"][3] == "constant"


@pytest.mark.parametrize(
    ("name", "decay", "measured"),
    [
        ("adopt", "decoupled", "0 to 0.002"),  # its first step moves nothing
        ("nadamw", "decoupled", "0.002"),
        ("adan", "decoupled", "0.002"),
        ("lion", "decoupled", "0.002"),
        ("lamb", "coupled", "not known"),  # inside a step of the weight's length
        ("novograd", "coupled", "not known"),  # inside the momentum
        ("radam", "coupled", "0"),
    ],
)
def test_what_is_known_and_what_is_measured(name, decay, measured):
    row = table(name)["decayed"]
    assert (row[4], row[5], row[6]) == (decay, "0.002", measured)


def test_adamp_takes_less_where_a_gradient_is_orthogonal_to_its_weight():
    assert table("adamp")["decayed"][6] in ("0.002", "2e-05 to 0.002")


class Hidden(torch.optim.Optimizer):
    """Decays by 3 lr lambda, after a first step that does not."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p in self.state:
                    p.mul_(1 - 3 * group["lr"] * group["weight_decay"])
                self.state[p]["seen"] = True


def test_an_optimizer_that_nobody_described():
    model = Attention()
    optimizer = Hidden(model.parameters(), {"lr": 0.1, "weight_decay": 0.02})
    (row, _) = describe_groups(optimizer).splitlines()[1:]
    assert re.split(r"  +", row)[4:8] == ["constant", "decoupled", "0.002", "0 to 0.006"] and not optimizer.state
    optimizer = torch.optim.LBFGS(model.parameters())
    assert "none" in describe_groups(optimizer)


def test_the_table_shows_lambda_at_the_peak_and_groups_added_later():
    model = Attention()
    optimizer = build_optimizer(model, "adamc", lr=0.1, weight_decay=0.02)
    late = [nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(1000, 2, 2))]
    loss = {"name": "loss", "params": late[:1], "param_names": ["a"], "weight_decay": 0.0}
    optimizer.add_param_group(loss)
    optimizer.add_param_group({"params": late[1:], "param_names": ["b", "c"]})
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for group in optimizer.param_groups:
        group["lr"] = 0.05
    optimizer.step()
    assert optimizer.param_groups[0]["weight_decay"] == 0.01
    lines = [re.split(r"  +", line) for line in describe_groups(optimizer).splitlines()]
    assert lines[1][:8] == ["decayed", "4", "160", "0.02", "corrected", "decoupled", "0.001", "0.0005"]
    assert lines[4][:6] == ["loss", "1", "1", "0", "-", "none"]
    assert lines[5] == ["group 4", "2", "4,003", "0.02", "constant", "decoupled", "0.001", "0.001", "any shape"]
    assert lines[6] == ["total", "13", "4,198"]
    at_rest = build_optimizer(Attention(), "adamw", lr=0.0, weight_decay=0.02)
    assert "constant  decoupled           0         0" in describe_groups(at_rest)
    without = build_optimizer(Attention(), "adamc", lr=0.1)
    assert "corrected" not in describe_groups(without) and "constant" not in describe_groups(without)


def test_the_table_is_aligned():
    lines = describe_groups(build_optimizer(Attention(), "adamc", lr=0.1, weight_decay=0.02)).splitlines()
    assert len({line.index(why) for line, why in zip(lines, ["why", BODY, HEAD, REST], strict=False)}) == 1
    ends = [line.index(count) + len(count) for line, count in zip(lines[1:], ["160", "8", "26", "194"], strict=True)]
    assert set(ends) == {lines[0].index("parameters") + len("parameters")}
