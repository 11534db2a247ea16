"""`Tracker`: what every tracker can do, and what it is opened with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

# The tables of a log, each with a name that every step of it has.
MARKS = {"history": "train/loss", "validation": "validation/average", "final": "final/average"}
PROJECT = "clipedu"  # in which trackers of many runs keep them


@dataclass(frozen=True)
class Opening:
    """What a tracker is opened with.

    Attributes:
        folder: of the run.
        name: of the run, which no other run has.
        settings: of the experiment, by name.
        step: how many steps the run has done; what the log has of later ones is not the run's.
        sent: table of `MARKS` -> the first step that was not sent, as far as is known.
    """

    folder: Path
    name: str
    settings: dict[str, Any]
    step: int = 0
    sent: dict[str, int] = field(default_factory=dict)


class Tracker(Protocol):
    """An open log of one run.

    Any method may raise any error: whoever calls it goes on without the tracker.

    Attributes:
        where: a line that says how to look at it.
    """

    where: str

    def first(self, table: str) -> int:
        """Return the first step of a table that the log does not have."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the numbers of one step, by name with slashes."""

    def embeddings(self, image: Tensor, text: Tensor, captions: Sequence[str], pixels: Tensor | None) -> None:
        """Show embeddings [N, D], where the tracker can.

        Pixels are uint8 [N, 3, H, W].
        """

    def figures(self, step: int, paths: Sequence[Path]) -> None:
        """Show figures from PNG files."""

    def flush(self) -> None:
        """Write what was logged so far."""

    def close(self, *, well: bool) -> None:
        """Write all and end; `well` says whether the run is finished."""
