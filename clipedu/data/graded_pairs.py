"""`GradedPairs`: pairs whose captions are known to be generic or specific."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from clipedu.data.scenes.attributes import Attributes
    from clipedu.data.scenes.captions import Meaning


@runtime_checkable
class GradedPairs(Protocol):
    """What scenes offer beyond `Pairs`.

    `isinstance(pairs, GradedPairs)` checks for them.

    Attributes:
        rows: int64 [N], the number of each scene in its stream.
        attributes: of the N scenes.
    """

    rows: Tensor
    attributes: Attributes

    def __len__(self) -> int: ...

    def chain(self, row: int) -> list[str]:
        """Return six captions of a row, from generic to specific."""

    def chain_meanings(self, row: int) -> list[Meaning]:
        """Return what each caption of `chain(row)` claims."""
