"""The prefix of a model's names in a file, found by names and shapes."""

from __future__ import annotations

import pytest
import torch

from clipedu.models.state_dicts import find_prefix, read_state, without_wrappers
from tests.helpers.errors import message_of

WANTED = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2), "weight": torch.zeros(5)}


@pytest.mark.parametrize(
    "names, prefix",
    [
        (["a.weight", "a.bias", "weight"], ""),
        (["x.a.weight", "x.a.bias", "x.weight"], "x."),
        (["x.y.a.weight", "x.y.a.bias", "x.y.weight", "x.a.bias"], "x.y."),
        (["x.a.weight", "a.bias"], ""),  # as many: the shorter
        ([], ""),
    ],
)
def test_the_prefix_of_most_names(names, prefix):
    state = {name: WANTED[next(key for key in WANTED if name.endswith(key))] for name in names}
    assert find_prefix(state | {"q": torch.zeros(1), "r.s": torch.zeros(1)}, WANTED)[0] == prefix


def test_shapes_count_before_names():
    right = {f"one.{name}": tensor for name, tensor in WANTED.items()}
    wrong = {f"two.{name}": torch.zeros(7, 7) for name in WANTED} | {"two.more": torch.zeros(1)}
    assert find_prefix(wrong | right, WANTED) == ("one.", [])


def test_dicts_in_dicts_are_flat(tmp_path):
    inner = {"_orig_mod.a": torch.ones(1), "b": {"_checkpoint_wrapped_module.c": torch.ones(2)}}
    torch.save({"model": inner, "step": 3}, tmp_path / "w.pt")
    state = read_state(tmp_path / "w.pt")
    assert list(state) == ["model._orig_mod.a", "model.b._checkpoint_wrapped_module.c"]
    assert list(without_wrappers(state)) == ["model.a", "model.b.c"]


def test_a_file_that_is_not_there_is_a_line(tmp_path):
    assert "cannot be read as safetensors" in message_of(read_state, tmp_path / "w.safetensors")
