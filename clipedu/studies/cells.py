"""Run the cells of grids: some at once, in order, none twice.

Each cell has a folder; those that share data are a group (a grid, or a comparison, of one `data_seed`). Data and tokenizer of a group are made
once, here, when its first missing cell is due. With one job the cells run in this process, one after the other; with more, each in a
worker process (`clipedu.studies.pool`), to which the data are handed as a file that is mapped. Either way a cell computes with the
same number of threads, and so gives the same numbers, bit for bit.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from clipedu.config.experiment import Experiment
from clipedu.runs.folders import load_run, make_folder
from clipedu.runs.lock import locked
from clipedu.runs.run import Run
from clipedu.runs.trained_rows import check_same_sets
from clipedu.studies.cell import ENDED, Unusable, checked, earlier_run, run_cell
from clipedu.studies.jobs import check_jobs, only_here, possible_jobs
from clipedu.studies.pool import Pool, Task, raised
from clipedu.studies.progress import StudyBar
from clipedu.studies.worker import Ended, Steps
from clipedu.training.datasets import Data
from clipedu.training.setup import prepare
from clipedu.utils.device import pick_device
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import remove_partial_files
from clipedu.utils.logs import show_progress_lines
from clipedu.utils.memory import is_out_of_memory, out_of_memory
from clipedu.utils.processors import processors
from clipedu.utils.ranks import check_one_process
from clipedu.utils.shared_objects import NotShareable, share

log = logging.getLogger("clipedu")


class LeftOut(ClipeduError):
    """Cells of a grid were left out; all others are done.

    Attributes:
        lines: for each of them its name, the file and what is wrong, and what to do.
        total: how many cells there are.
    """

    def __init__(self, lines: Sequence[str], total: int):
        self.lines, self.total = list(lines), total
        verb = "is" if len(lines) == 1 else "are"
        super().__init__(f"{len(lines)} of {total} cells {verb} left out, all others are done. {'. '.join(lines)}")


@dataclass(frozen=True)
class Group:
    """Cells that share their data.

    Attributes:
        experiments: by the name of the cell's folder.
        data: opens what they share.
    """

    experiments: Mapping[str, Experiment]
    data: Callable[[], Data]


def run_cells(
    groups: Sequence[Group], folder: Path, *, jobs: int | None = 1, threads: int = 1, progress: bool = True
) -> Generator[Run, None, None]:
    """Run the cells that are not finished; yield every run, in order.

    What is begun goes on while the caller has a run. A caller that ends before all are done stops it, as Ctrl-C does.

    Args:
        groups: of cells; no two have the same name.
        folder: of the cells' folders.
        jobs, threads: as those of `clipedu.studies.grid.run_grid`.
        progress: show a bar for all cells.

    Raises:
        LeftOut: after all others, for cells that were left out. Each is named in a log line when its turn comes.
        ClipeduError: a cell has other settings, or was trained on other data, or the folder is in use by another process.
    """
    check_jobs(jobs, threads)
    show_progress_lines(progress)
    left_out: list[str] = []
    experiments = {name: experiment for group in groups for name, experiment in group.experiments.items()}
    check_one_process("a grid")
    make_folder(folder)
    with locked(folder), ExitStack() as stack:
        remove_partial_files(folder)
        plan = _Plan(groups, folder)
        bar = StudyBar(plan.missing, shown=progress)
        stack.callback(bar.close)
        result = _in_order(plan, bar, stack, jobs=jobs, threads=threads, progress=progress)
        for name, experiment in experiments.items():
            try:
                run = result(name) if name in plan.missing else run_cell(experiment, folder / name, _no_data)
            except Unusable as error:
                left_out.append(f"{name}: {error}")
                log.warning("left out: %s", left_out[-1])
            else:
                with bar.hidden():
                    yield run
    if left_out:
        raise LeftOut(left_out, len(experiments))


def _no_data() -> Data:
    raise AssertionError("a cell that is finished needs no data")


class _Plan:
    """Which cells are missing, and what they need.

    Attributes:
        missing: names, in order.
        group_of: the number of each cell's group.
    """

    def __init__(self, groups: Sequence[Group], folder: Path) -> None:
        self.groups, self.folder = groups, folder
        self.missing: list[str] = []
        self.group_of: dict[str, int] = {}
        self._earlier: list[list[Run]] = []
        for number, group in enumerate(groups):
            self._earlier.append([])
            for name, experiment in group.experiments.items():
                with suppress(Unusable):  # it is named when its turn comes
                    run = earlier_run(folder / name, experiment)
                    if run is not None:
                        self._earlier[-1].append(run)
                    if run is None or run.status not in ENDED:
                        self.missing.append(name)
                self.group_of[name] = number

    def experiment(self, name: str) -> Experiment:
        return self.groups[self.group_of[name]].experiments[name]

    def missing_of(self, number: int) -> list[str]:
        return [name for name in self.missing if self.group_of[name] == number]

    def open(self, number: int, bar: StudyBar, *, progress: bool) -> Data:
        """Open the data of a group, and make all that its missing cells would make of them.

        That is: pictures are drawn and hashed, captions become tokens, and frozen encoders' features are in the cache.

        Raises:
            ClipeduError: they cannot be opened, or a cell that is there was trained on others.
        """
        data = self.groups[number].data()
        now = {pairs.split: pairs.identity() for pairs in (data.train, *data.scored)}
        for run in self._earlier[number]:
            check_same_sets(run.folder, now)
        missing = {name: self.experiment(name) for name in self.missing_of(number)}
        first = next(iter(missing.values()))
        data.train.tokenize(data.tokenizer)
        for pairs in data.scored:
            if pairs.split != "zeroshot":
                pairs.tokenize(data.tokenizer)
        if first.image_frozen or first.text_frozen:
            prepare(first, data, progress=progress)
        bar.expect({name: len(data.train) // one.batch_size * one.epochs for name, one in missing.items()})
        return data


def _in_order(
    plan: _Plan, bar: StudyBar, stack: ExitStack, *, jobs: int | None, threads: int, progress: bool
) -> Callable[[str], Run]:
    """Return a function that returns the run of a missing cell; it is called for each, in order."""
    if not plan.missing:
        return _nothing_missing
    experiments = [plan.experiment(name) for name in plan.missing]
    on_cpu = pick_device(experiments[0].device).type == "cpu"
    at_once = possible_jobs(jobs, len(plan.missing), threads=threads, on_cpu=on_cpu)
    if at_once > 1 and (why := only_here(experiments)):
        log.warning("one cell at a time: %s", why)
        at_once = 1
    if at_once == 1:
        return _OneByOne(plan, bar, threads if on_cpu else None, progress=progress)
    files = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clipedu-", ignore_cleanup_errors=True)))
    each = threads if on_cpu else max(threads, processors() // at_once)
    pool = stack.enter_context(Pool("clipedu.studies.cell:work", at_once, each))
    return _AtOnce(plan, bar, pool, files, _OneByOne(plan, bar, threads if on_cpu else None, progress=progress))


def _nothing_missing(name: str) -> Run:
    raise AssertionError(f"{name} is not missing")


class _OneByOne:
    """Runs cells in this process."""

    def __init__(self, plan: _Plan, bar: StudyBar, threads: int | None, *, progress: bool) -> None:
        self.plan, self.bar, self.threads, self.progress = plan, bar, threads, progress
        self._opened: dict[int, Data] = {}  # the group that is at work

    def __call__(self, name: str) -> Run:
        plan, number = self.plan, self.plan.group_of[name]
        if number not in self._opened:
            self._opened.clear()
            self._opened[number] = plan.open(number, self.bar, progress=self.progress)
        with computing_with(self.threads), _named(name):
            try:
                return run_cell(
                    plan.experiment(name),
                    plan.folder / name,
                    lambda: self._opened[number],
                    progress=partial(self.bar.step, name),
                )
            finally:
                self.bar.end(name)


class _AtOnce:
    """Runs cells in the workers of a pool."""

    def __init__(self, plan: _Plan, bar: StudyBar, pool: Pool, files: Path, instead: _OneByOne) -> None:
        self.plan, self.bar, self.pool, self.files, self.instead = plan, bar, pool, files, instead
        tasks = [
            Task(name, (plan.experiment(name), plan.folder / name), shared=plan.group_of[name]) for name in plan.missing
        ]
        self._events = pool.run(tasks, self._shared)
        self._ended: dict[str, BaseException | None] = {}
        self._fallen_back = False

    def __call__(self, name: str) -> Run:
        try:
            self._await(name)
        except NotShareable as error:
            log.warning("one cell at a time: the data cannot be handed to other processes: %s", error)
            self.pool.stop()
            self._fallen_back = True
        if name not in self._ended:
            return self.instead(name)
        if (fault := self._ended[name]) is not None:
            raise fault
        return checked(load_run(self.plan.folder / name))

    def _await(self, name: str) -> None:
        """Wait until a cell has ended.

        Raises:
            NotShareable: the data cannot be handed to the workers.
            Exception: a cell, this one or another, has met with an error that ends the grid.
        """
        while name not in self._ended and not self._fallen_back:
            which, event = next(self._events)
            if isinstance(event, Steps):
                self.bar.step(which, event.done, event.of)
                continue
            self.bar.end(which)
            if isinstance(event, Ended):
                self._ended[which] = raised(event)
            else:
                self._ended[which] = Unusable(f"{event.why}; the same command goes on with it")
            error = self._ended[which]
            if error is not None and not isinstance(error, Unusable):
                if not is_out_of_memory(error):
                    raise error
                self._ended[which] = Unusable(out_of_memory(error))
            number = self.plan.group_of[which]
            if all(cell in self._ended for cell in self.plan.missing_of(number)):
                with suppress(OSError):
                    (self.files / str(number)).unlink()

    def _shared(self, number: int) -> Path:
        """Return the file with the data of a group; it is made at the first call."""
        path = self.files / str(number)
        if not path.exists():
            data = self.plan.open(number, self.bar, progress=self.instead.progress)
            share(data, path, "Set TMPDIR to a folder with space, or give --jobs 1")
        return path


@contextmanager
def computing_with(threads: int | None) -> Iterator[None]:
    """Let torch compute with so many threads in the block.

    None leaves them as they are.
    """
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _named(cell: str) -> Iterator[None]:
    """Let the log lines of the block begin with the name of a cell."""

    def add(record: logging.LogRecord) -> bool:
        record.msg, record.args = f"{cell}: {record.getMessage()}", ()
        return True

    log.addFilter(add)
    try:
        yield
    finally:
        log.removeFilter(add)
