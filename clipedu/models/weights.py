"""Load encoders' weights from a file or from the hub.

A file must hold every tensor of the model, in its shape, whatever prefix their names have there (`state_dicts.py`); what it
holds besides (a classifier) is left out. timm and
transformers fetch from the hub; where it cannot be reached, what they fetched before is used, and what is missing is
reported at once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from clipedu.models.state_dicts import TORCH_SUFFIXES, find_prefix, read_state, without_wrappers
from clipedu.utils.errors import ClipeduError, quoted, without_trace
from clipedu.utils.finite import first_non_finite
from clipedu.utils.hub import quiet, reachable
from clipedu.utils.memory import is_out_of_memory, out_of_memory

log = logging.getLogger("clipedu")


def load_weights(model: nn.Module, weights: str, name: str) -> None:
    """Load a file of weights into a model.

    "random" and "pretrained" leave it as it is. A prefix that all names of the model have in the file is taken off, and a
    line (logger "clipedu") says which. What else is in the file (a classifier, another encoder) is left out.

    Args:
        model: whose state dict is loaded, in place.
        weights: "random", "pretrained" or the path of a file: .safetensors, or a state dict that torch saved.
        name: of the model, for error messages.
    Raises:
        ClipeduError: no such file, one that cannot be read, or tensors that are missing, of another shape or not finite.
    """
    if weights in ("random", "pretrained"):
        return
    path = Path(weights).expanduser()
    try:
        found = path.is_file()
    except (OSError, ValueError):  # a name that is too long, or with a NUL
        found = False
    if not found:
        raise ClipeduError(
            f"weights {quoted(weights)} for {name!r}: no such file. Allowed: random, pretrained, or the path of a "
            f".safetensors file (or a state dict of torch: {', '.join(TORCH_SUFFIXES)})"
        )
    try:
        state = read_state(path)
    except ClipeduError as error:
        raise ClipeduError(f"weights for {name!r}: {error}") from None
    wanted = model.state_dict()
    prefix, rivals = find_prefix(state, wanted)
    if any(prefix + key not in state for key in wanted):  # compiled or wrapped parts have torch's words inside
        state = without_wrappers(state)
        prefix, rivals = find_prefix(state, wanted)
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    _check_fit(own, wanted, f"weights {quoted(weights)} do not fit {name!r}", prefix, next(iter(state)))
    if fault := first_non_finite(((key, own[key]) for key in wanted if key in own), may_be_minus_infinite=True):
        raise ClipeduError(
            f"weights {quoted(weights)} for {name!r}: {fault} is not finite: take a file of a model that works"
        )
    if prefix:
        also = f" ({', '.join(map(repr, rivals[:3]))} would fit too)" if rivals else ""
        log.info("weights of %s from %s: the prefix %r of its names is taken off%s", name, path.name, prefix, also)
    model.load_state_dict({key: value for key, value in own.items() if key in wanted}, strict=False)


def _check_fit(own: dict[str, Tensor], wanted: dict[str, Tensor], what: str, prefix: str, first: str) -> None:
    """Raise ClipeduError unless all tensors of a model are there.

    `first` is the name of the file's first tensor, for the case that it holds none under the prefix.
    """
    missing = [key for key in wanted if key not in own and not key.endswith("num_batches_tracked")]
    unfit = [key for key in wanted if key in own and own[key].shape != wanted[key].shape]
    integer = [key for key in wanted if key in own and own[key].is_floating_point() != wanted[key].is_floating_point()]
    if not (missing or unfit or integer):
        return
    without = f" (with the prefix {prefix!r} taken off)" if prefix else ""
    words = [f"{len(missing)} tensors missing, {len(unfit)} of another shape (first: {(missing + unfit + integer)[0]})"]
    if missing:
        unexpected = next((key for key in own if key not in wanted), None) or ("" if own else first)
        words += [f"first in the file that the model does not have: {unexpected}"] if unexpected else []
    elif unfit:
        key = unfit[0]
        words.append(f"{list(own[key].shape)} in the file, {list(wanted[key].shape)} in the model")
    else:
        key = integer[0]
        words.append(f"{key} is {own[key].dtype} in the file, {wanted[key].dtype} in the model")
    raise ClipeduError(f"{what}{without}: {'; '.join(words)}")


@contextmanager
def from_hub(what: str, setting: str) -> Iterator[bool]:
    """Turn errors of timm and transformers about the hub into one line.

    Yields whether to use local files only.

    Without a network the hub's client tries each file six times, which takes minutes: pass what this yields to
    transformers as `local_files_only`, to timm by `cached_timm_weights`. A TypeError passes through: it is a wrong option.

    Args:
        what: what is fetched, for the message.
        setting: the experiment's setting that requires it.
    Raises:
        ClipeduError: it is neither on this machine nor available from the hub.
    """
    from huggingface_hub import constants

    local = constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT)
    try:
        with quiet(bars=True):
            yield local
    except TypeError:
        raise
    except Exception as error:  # noqa: BLE001  the hub's clients have dozens of errors
        where = "not on this machine, and the hub cannot be reached" if local else "not available"
        raise ClipeduError(
            f"{what}: {where} ({str(error).strip()[:200]}). Try again with a network, or choose another {setting}"
        ) from None


def cached_timm_weights(name: str) -> dict[str, Any]:
    """Return arguments of `timm.create_model` for weights in the cache.

    They load what timm fetched from the hub before, without a network.

    They are empty for a model whose weights do not come from the hub.

    Raises:
        OSError: the weights are not on this machine.
    """
    import timm
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    source = timm.get_pretrained_cfg(name)
    if source is None or not source.hf_hub_id:
        return {}
    repository, _, revision = source.hf_hub_id.partition("@")
    files = [source.hf_hub_filename] if source.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    for file in files:
        try:
            path = hf_hub_download(repository, file, revision=revision or None, local_files_only=True)
        except LocalEntryNotFoundError:
            continue
        return {"pretrained_cfg_overlay": {"file": path, "custom_load": False}}
    raise OSError(f"{repository} has not been fetched: neither {' nor '.join(files)} is in the hub's cache")


@contextmanager
def one_line_errors(what: str, option: str, given: dict[str, Any]) -> Iterator[None]:
    """Turn any error of building a model into one line.

    Each model refuses an option in its own way.

    Args:
        what: is built, for the message: "image encoder 'resnet50'".
        option: field of the experiment that holds the options.
        given: the options.
    Raises:
        ClipeduError: whatever failed inside.
    """
    try:
        yield
    except ClipeduError:
        raise
    except Exception as error:  # noqa: BLE001
        reason = out_of_memory(error) if is_out_of_memory(error) else without_trace(error)
        reason = reason or type(error).__name__  # an assertion says nothing
        raise ClipeduError(f"{what}{f' with {option}={given}' if given else ''} cannot be built: {reason}") from None
