"""The trackers by name, and whether their packages are there."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from clipedu.trackers.base import Opening, Tracker
from clipedu.utils.errors import ClipeduError
from clipedu.utils.registry import Registry

TRACKERS = Registry("tracker")


def _tensorboard(opening: Opening) -> Tracker:
    from clipedu.trackers.tensorboard import TensorBoard

    return TensorBoard(opening)


def _trackio(opening: Opening) -> Tracker:
    from clipedu.trackers.sessions import Trackio

    return Trackio(opening)


def _wandb(opening: Opening) -> Tracker:
    from clipedu.trackers.sessions import WandB

    return WandB(opening)


TRACKERS.add("tensorboard", _tensorboard, "TensorBoard, in the run's folder: scalars, figures, embedding projector")
TRACKERS.add("trackio", _trackio, "trackio, on this machine (TRACKIO_DIR): scalars, figures")
TRACKERS.add("wandb", _wandb, "Weights & Biases, in the run's folder until `wandb sync`: scalars, figures")


def check_installed(names: Iterable[str]) -> None:
    """Check that the packages of some trackers can be imported.

    Args:
        names: keys of `TRACKERS`; each is the name of its package, too.
    Raises:
        ClipeduError: one is not there, or fails; the message says how to install it.
    """
    for name in names:
        TRACKERS[name]
        try:
            importlib.import_module(name)
            if name == "tensorboard":
                importlib.import_module("torch.utils.tensorboard")
        except ImportError as error:
            missing = getattr(error, "name", None) == name
            why = f"the package {name}" if missing else f"the package {name}, which cannot be imported ({error})"
            raise ClipeduError(f"track={name!r} needs {why}: pip install {name}, or leave it out") from None
        except Exception as error:  # noqa: BLE001  whatever a library raises that does not fit others
            why = next(iter(str(error).splitlines()), "")[:200]
            raise ClipeduError(
                f"track={name!r} needs the package {name}, which fails when it is imported ({type(error).__name__}: {why}): "
                f"pip install -U {name}, or leave it out"
            ) from None


def open_tracker(name: str, opening: Opening) -> Tracker:
    """Open the log of a run, a new one or one that is to go on.

    Args:
        name: a key of `TRACKERS`.
        opening: of which run, and how far it is.
    Raises:
        Exception: whatever the tracker raises.
    """
    return TRACKERS[name].build(opening)
