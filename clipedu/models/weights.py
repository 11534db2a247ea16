"""Where an encoder's weights come from, if not from chance: a .safetensors file, or the Hugging Face hub.

A file must hold every tensor of the model, in its shape; what it holds besides (a classifier) is left out. The hub is
asked by timm and transformers; where it cannot be reached, what they fetched before is used, and what is not there is told
at once.
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
    """Load a .safetensors file into the model called `name`; "random" and "pretrained" leave it as it is.

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
def from_hub(what: str, setting: str) -> Iterator[None]:
    """Inside, timm and transformers may ask the hub for `what`, which the experiment's `setting` has asked for.

    Without a network the hub's own client tries each file six times, which takes minutes; so it is told to look on this
    machine only. A TypeError passes through: that is a wrong option, not the hub.

    Raises:
        ClipeduError: it is neither on this machine nor to be had from the hub.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not reachable(constants.ENDPOINT)
    try:
        with quiet(bars=True):
            yield
    except TypeError:
        raise
    except Exception as error:  # noqa: BLE001  the hub's clients have dozens of errors
        where = "not on this machine, and the hub cannot be reached" if constants.HF_HUB_OFFLINE else "not to be had"
        raise ClipeduError(
            f"{what}: {where} ({str(error).strip()[:200]}). Try again with a network, or choose another {setting}"
        ) from None
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def one_line_errors(what: str, option: str, given: dict[str, Any]) -> Iterator[None]:
    """Each model refuses an option in its own way, and with any kind of error: tell it in one line."""
    try:
        yield
    except ClipeduError:
        raise
    except Exception as error:  # noqa: BLE001
        raise ClipeduError(f"{what}{f' with {option}={given}' if given else ''} cannot be built: {error}") from None
