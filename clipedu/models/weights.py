"""Load encoders' weights from a .safetensors file or from the hub.

A file must hold every tensor of the model, in its shape; what it holds besides (a classifier) is left out. timm and
transformers fetch from the hub; where it cannot be reached, what they fetched before is used, and what is missing is
reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from clipedu.utils.errors import ClipeduError
from clipedu.utils.hub import quiet, reachable


def load_weights(model: nn.Module, weights: str, name: str) -> None:
    """Load a .safetensors file into a model.

    "random" and "pretrained" leave it as it is.

    Args:
        model: whose state dict is loaded, in place.
        weights: "random", "pretrained" or the path of a .safetensors file.
        name: of the model, for error messages.
    Raises:
        ClipeduError: no such file, no safetensors, or tensors that are missing or of another shape.
    """
    if weights in ("random", "pretrained"):
        return
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(weights).expanduser()
    if not path.is_file():
        raise ClipeduError(
            f"weights {weights!r} for {name!r}: no such file. Allowed: random, pretrained, or the path of a .safetensors file"
        )
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ClipeduError(f"weights {weights!r} for {name!r} cannot be read as safetensors: {error}") from None
    wanted = {key: value.shape for key, value in model.state_dict().items()}
    unfit = [key for key in state if key in wanted and state[key].shape != wanted[key]]
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    if unfit or missing:
        raise ClipeduError(
            f"weights {weights!r} do not fit {name!r}: {len(missing)} tensors missing, {len(unfit)} of another shape "
            f"(first: {(missing + unfit)[0]})"
        )
    model.load_state_dict({key: value for key, value in state.items() if key in wanted}, strict=False)


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
        raise ClipeduError(f"{what}{f' with {option}={given}' if given else ''} cannot be built: {error}") from None
