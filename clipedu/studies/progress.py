"""One bar for many runs: cells done, steps done, time left."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from tqdm import tqdm


class StudyBar:
    """The bar of a study.

    It counts the steps that are to be made: those that a run had made before do not count, and those that it will not make, since it
    has failed, no longer.

    Args:
        names: of the runs that are missing.
        shown: whether there is a bar.
    """

    def __init__(self, names: Collection[str], *, shown: bool) -> None:
        self._names, self._ended = list(names), 0
        self._steps: dict[str, int] = {}  # that a run has to make
        self._first: dict[str, int] = {}  # where it began
        self._done: dict[str, int] = {}
        self._bar = tqdm(
            total=0,
            desc=f"0 of {len(names)} runs",
            unit="step",
            smoothing=0,  # the mean speed, with the scoring of runs
            disable=not (shown and names),
        )

    def expect(self, steps: dict[str, int]) -> None:
        """Say how many steps runs have, before they begin."""
        self._steps = steps | self._steps
        self._count()

    def step(self, name: str, done: int, of: int) -> None:
        """Say how many steps of a run are done, and how many it has."""
        if not self._first:
            self._bar.reset()  # the time that the data take says nothing about the steps
        self._first.setdefault(name, done)
        self._steps[name] = of - self._first[name]
        self._done[name] = done - self._first[name]
        self._count()

    def end(self, name: str) -> None:
        """Say that a run has ended, at whichever step."""
        self._ended += name in self._names
        self._steps[name] = self._done.setdefault(name, 0)
        self._count(refresh=True)

    def _count(self, *, refresh: bool = False) -> None:
        self._bar.total = sum(self._steps.values())
        self._bar.set_description_str(f"{self._ended} of {len(self._names)} runs", refresh=False)
        self._bar.update(sum(self._done.values()) - self._bar.n)
        if refresh:
            self._bar.refresh()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the bar from the screen, so that others can write there."""
        self._bar.clear()
        try:
            yield
        finally:
            self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
