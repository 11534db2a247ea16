"""Names of modules and parameters without those of wrappers around them.

Compiling, distributing and checkpointing put a module around a model or a part of it, and the wrapper's name for what it
holds enters every name below: "image_encoder.conv.weight" becomes "_orig_mod.image_encoder._checkpoint_wrapped_module.conv.weight".
What goes by name (heads, parts, groups) uses `named_modules` and `named_parameters` of this file, which leave those words out.

`_orig_mod` (torch.compile), `_fsdp_wrapped_module` (FSDP), `_checkpoint_wrapped_module` (activation checkpointing) and
`_forward_module` (Lightning) are names that only wrappers have. `module` is a wrapper's where its owner is of a known class:
DataParallel, DistributedDataParallel, AveragedModel, DeepSpeedEngine. A model with a part of its own called `module` keeps it.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.optim.swa_utils import AveragedModel

_ALWAYS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
_OWNERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
_OWNERS_ELSEWHERE = ("DeepSpeedEngine",)  # by the name of the class: the package is not imported for this


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside all wrappers around it.

    It is the model itself where there is no wrapper.
    """
    inner = [child for name, child in model.named_children() if _is_wrapped(model, name)]
    return unwrap(inner[0]) if inner else model


def bare_name(name: str) -> str:
    """Return a name without the words that only wrappers have; `module` stays."""
    return ".".join(word for word in name.split(".") if word not in _ALWAYS)


def named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield modules by name like torch, without the words of wrappers.

    A wrapper and what it holds have one name; the wrapper comes first. A module that occurs twice has both names.

    Args:
        model: any module, wrapped or not.
    """
    yield from _walk(model, "", ())


def named_parameters(model: nn.Module, remove_duplicate: bool = True) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield parameters by name like torch, without the words of wrappers.

    Args:
        model: any module, wrapped or not.
        remove_duplicate: yield a shared parameter once, under its first name; else under each of its names.
    """
    seen: set[nn.Parameter | tuple[str, nn.Parameter]] = set()
    for prefix, module in named_modules(model):
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            full = f"{prefix}.{name}" if prefix else name
            key = parameter if remove_duplicate else (full, parameter)
            if key not in seen:
                seen.add(key)
                yield full, parameter


def _walk(module: nn.Module, name: str, above: tuple[nn.Module, ...]) -> Iterator[tuple[str, nn.Module]]:
    yield name, module
    for word, child in module._modules.items():
        if child is None or any(child is one for one in (*above, module)):  # a wrapper may hold its owner
            continue
        inside = name if _is_wrapped(module, word) else f"{name}.{word}" if name else word
        yield from _walk(child, inside, (*above, module))


def _is_wrapped(owner: nn.Module, word: str) -> bool:
    """Return whether `word` is a wrapper's name for what it holds."""
    if word in _ALWAYS:
        return True
    return word == "module" and (isinstance(owner, _OWNERS) or type(owner).__name__ in _OWNERS_ELSEWHERE)
