"""A run's tables, passed on to trackers.

A tracker follows the tables in the run's folder: it gets their new rows whenever some were written, which is with each checkpoint. So
it shows the numbers of the tables, costs a step of training nothing, and a log that has fallen behind, or was never
begun, is brought up to date when the run goes on. What a tracker raises ends its part with a warning; the run goes on.

trackers.json keeps the name that a run has in trackers of many runs, and how far each log is:
{"name": "quickstart-1a2b3c4d", "sent": {"tensorboard": {"history": 250, "validation": 0, "final": 251}}}.
"""

from __future__ import annotations

import heapq
import logging
import math
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch

from clipedu.data.pairs import Pairs
from clipedu.evaluation.metrics import AVERAGED_PREFIX
from clipedu.runs.rows import NewRows
from clipedu.runs.run import Run
from clipedu.runs.schema import TRACKED as SPEC
from clipedu.trackers import Tracker, check_installed, open_tracker
from clipedu.trackers.base import MARKS, Opening
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import read_json, write_json

TRACKED = "trackers.json"
TABLES = ("history", "norms", "layers", "validation")

log = logging.getLogger("clipedu")


class Tracking:
    """The trackers of a run; a context manager that closes them.

    Args:
        run: its tables are passed on.
        step: how many steps are done.
        names: of the trackers; None takes those of the experiment.
    Raises:
        ClipeduError: trackers.json is damaged.
    """

    def __init__(self, run: Run, step: int, names: Sequence[str] | None = None):
        self.run, self.step = run, step
        self._names = list(run.experiment.track if names is None else names)
        self._logs: dict[str, _Log] | None = None
        self._kept = read_tracked(run) if self._names else {}
        self._finished = False

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if self._logs is not None:
            self.update()
        self._each(lambda one: one.tracker.close(well=self._finished))
        self._logs = {}

    def update(self) -> None:
        """Pass on the rows that were written since.

        The first time it opens the trackers, and passes on what their logs do not have; the tables are to end with `step` then.
        """
        if self._logs is None:
            self._logs = self._open()
        self._each(lambda one: one.update())
        self._keep()

    def finish(self, sets: Sequence[Pairs] = ()) -> None:
        """Pass on what a finished run has besides: scores, embeddings, figures.

        Args:
            sets: what it was scored on; images of the retrieval set among them are shown with the embeddings.
        """
        self.update()
        self._each(lambda one: one.finish(self.run, sets))
        self._finished = True
        self._keep()

    def _open(self) -> dict[str, _Log]:
        opened: dict[str, _Log] = {}
        settings = asdict(self.run.experiment)
        for name in self._names:

            def begin(name: str = name) -> None:
                write_json(self.run.folder / TRACKED, self._kept)  # before anything has the name
                sent = self._kept["sent"].get(name, {})
                opening = Opening(self.run.folder, self._kept["name"], settings, self.step, sent)
                opened[name] = _Log(open_tracker(name, opening), self.run)
                log.info("%s: %s", name, opened[name].tracker.where)

            self._guarded(name, begin)
        return opened

    def _each(self, act: Callable[[_Log], None]) -> None:
        for name, one in list((self._logs or {}).items()):
            if not self._guarded(name, lambda one=one: act(one)):  # type: ignore[misc]
                del self._logs[name]  # type: ignore[union-attr]
                with suppress(Exception):
                    one.tracker.close(well=False)

    def _guarded(self, name: str, act: Callable[[], None]) -> bool:
        """Do something with a tracker; where that fails, warn and return False."""
        try:
            act()
        except Exception as error:  # noqa: BLE001  whatever somebody else's library raises
            why = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}"
            log.warning(
                "%s does not log %s any more (%s). Nothing is lost: all is in the run's tables. To bring its log up to date: "
                "clipedu train --resume %s", name, self.run.folder, why, self.run.folder,
            )  # fmt: skip
            return False
        return True

    def _keep(self) -> None:
        """Write down how far the logs are."""
        sent = {name: one.sent for name, one in (self._logs or {}).items()}
        if sent != {name: self._kept["sent"].get(name) for name in sent}:
            self._kept["sent"] |= {name: dict(steps) for name, steps in sent.items()}
            try:
                write_json(self.run.folder / TRACKED, self._kept)
            except ClipeduError as error:
                log.warning("%s: a tracker may get some rows twice when the run goes on", error)


def read_tracked(run: Run) -> dict[str, Any]:
    """Return what trackers.json of a run holds.

    A name is made where there is none.

    Raises:
        ClipeduError: it is damaged.
    """
    remedy = "Remove it: the logs of its trackers are then begun anew"
    found = read_json(run.folder / TRACKED, SPEC, remedy)
    word = re.sub(r"[^\w.-]+", "_", run.folder.absolute().name)[:80]
    return {"name": f"{word}-{uuid.uuid4().hex[:8]}", "sent": {}, **found}


def track_finished(run: Run, names: Sequence[str] | None = None) -> None:
    """Bring the logs of a finished run up to date, or make them.

    Args:
        run: finished.
        names: of the trackers; None takes those of the experiment.
    Raises:
        ClipeduError: the package of one is missing.
    """
    steps = 1 + int(run.history["step"].max()) if len(run.history) else 0
    names = run.experiment.track if names is None else names
    if not names:
        return
    sent = read_tracked(run)["sent"]
    names = [name for name in names if sent.get(name, {}).get("final", 0) <= steps]
    check_installed(names)
    with Tracking(run, steps, names) as tracking:
        tracking.finish()


class _Log:
    """One open tracker, and how far it is.

    Attributes:
        sent: table -> the first step that was not sent.
    """

    def __init__(self, tracker: Tracker, run: Run):
        self.tracker = tracker
        self.sent = {table: tracker.first(table) for table in MARKS}
        first = {table: self.sent["validation" if table == "validation" else "history"] for table in TABLES}
        self._tables = {table: NewRows(run.folder / f"{table}.csv", first[table]) for table in TABLES}

    def update(self) -> None:
        """Send the rows that are new, all of a step at once."""
        rows = [_named(table, new.take()) for table, new in self._tables.items()]
        for step, parts in groupby(heapq.merge(*rows, key=itemgetter(0)), key=itemgetter(0)):
            values: dict[str, float] = {}
            for _, part in parts:
                values |= part
            self.tracker.log(step, values)
            for table, mark in MARKS.items():
                if mark in values:
                    self.sent[table] = step + 1
        self.tracker.flush()

    def finish(self, run: Run, sets: Sequence[Pairs]) -> None:
        """Send what a finished run has besides, once."""
        step = self.sent["history"]
        if self.sent["final"] > step:
            return
        self.tracker.log(step, _numbers("final", run.metrics.items()))
        if (kept := run.embeddings()) is not None:
            shown = next((pairs for pairs in sets if pairs.split != "zeroshot"), None)
            pixels = None if shown is None else shown.pixels(torch.arange(len(kept["captions"])))
            self.tracker.embeddings(kept["image"], kept["text"], kept["captions"], pixels)
        self.tracker.figures(step, sorted((run.folder / "plots").glob("*.png")))
        self.tracker.flush()
        self.sent["final"] = step + 1


def _named(table: str, rows: Iterable[tuple[int, dict[str, str]]]) -> Iterator[tuple[int, dict[str, float]]]:
    """Name the numbers of the rows of a table."""
    for step, cells in rows:
        head = "train" if table == "history" else table
        if table == "norms":
            head = f"norms/{cells.pop('part')}"
        elif table == "layers":
            head = f"layers/{cells['layer']}"
            cells = {name: cell for name, cell in cells.items() if name not in _WORDS}
        elif table == "validation" and cells.pop("weights") == "averaged":
            head = f"validation/{AVERAGED_PREFIX.rstrip('/')}"
        yield step, _numbers(head, cells.items())


_WORDS = ("layer", "part", "kind", "group", "law", "size")  # of layers.csv: what a layer is, the same in each step


def _numbers(head: str, values: Iterable[tuple[str, str | float]]) -> dict[str, float]:
    """Return the finite ones of some numbers, with their full names."""
    return {f"{head}/{name}": number for name, value in values if value != "" and math.isfinite(number := float(value))}
