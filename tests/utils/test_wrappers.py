"""Names come out as those of the bare model, whatever is wrapped around it or around its parts."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

from clipedu.utils.wrappers import bare_name, named_modules, named_parameters, unwrap


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4))
        self.projection = nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.ones(()))


def named(word: str):
    """A wrapper that holds a module under this name."""

    def wrap(model: nn.Module) -> nn.Module:
        outer = nn.Module()
        setattr(outer, word, model)
        return outer

    return wrap


class DeepSpeedEngine(nn.Module):
    def __init__(self, inner: nn.Module):
        super().__init__()
        self.module = inner


compiled, fsdp = named("_orig_mod"), named("_fsdp_wrapped_module")
WRAPPERS = [compiled, fsdp, nn.DataParallel, checkpoint_wrapper, AveragedModel, DeepSpeedEngine]
BARE = [name for name, _ in Tower().named_parameters()]


def parameter_names(model: nn.Module) -> list[str]:
    return [name for name, _ in named_parameters(model)]


@pytest.mark.parametrize("outer", WRAPPERS)
@pytest.mark.parametrize("inner", [*WRAPPERS, lambda model: model])
def test_around_the_model_in_any_order(outer, inner):
    model = outer(inner(Tower()))
    assert parameter_names(model) == BARE and isinstance(unwrap(model), Tower)
    assert set(dict(named_modules(model))) == set(dict(Tower().named_modules()))
    assert [p for _, p in named_parameters(model)] == list(model.parameters())


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_inside_the_model(wrap):
    model = Tower()
    model.encoder[0], model.projection = wrap(model.encoder[0]), wrap(model.projection)
    model.encoder = wrap(model.encoder)
    assert parameter_names(model) == BARE
    assert dict(named_modules(model))["projection"] is unwrap(model.projection)  # what is inside comes last


def test_a_process_group_is_needed_for_ddp(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(compiled(Tower()))
        assert parameter_names(model) == BARE
        assert parameter_names(compiled(nn.parallel.DistributedDataParallel(Tower()))) == BARE
    finally:
        torch.distributed.destroy_process_group()


def test_a_part_of_the_models_own_called_module_stays():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = Tower()

    assert parameter_names(Own()) == parameter_names(compiled(Own())) == [f"module.{name}" for name in BARE]
    assert isinstance(unwrap(compiled(Own())), Own)
    assert parameter_names(nn.ModuleDict({"module": nn.Linear(1, 1)})) == ["module.weight", "module.bias"]


def test_shared_weights_once_or_under_each_name():
    model = Tower()
    model.projection.weight = model.encoder[1].weight
    model.again = model.encoder[0]
    model = compiled(model)
    assert parameter_names(model) == [name for name, _ in unwrap(model).named_parameters()]
    assert {"encoder.0", "again"} <= set(dict(named_modules(model)))
    every = [name for name, _ in named_parameters(model, remove_duplicate=False)]
    assert every == [name for name, _ in unwrap(model).named_parameters(remove_duplicate=False)]


def test_a_wrapper_that_holds_the_same_module_twice():
    class Twice(nn.Module):
        def __init__(self, inner: nn.Module):
            super().__init__()
            self._forward_module = self._orig_mod = inner

    assert [name for name, _ in named_parameters(Twice(Tower()), remove_duplicate=False)] == BARE


def test_bare_names_and_copies():
    assert bare_name("_orig_mod.image._fsdp_wrapped_module.module.weight") == "image.module.weight"
    assert parameter_names(copy.deepcopy(compiled(Tower()))) == BARE
