"""A pool of worker processes: tasks at once, each lost alone.

    with Pool("clipedu.studies.cell:work", jobs=2, threads=1) as pool:
        for event in pool.run(tasks, shared):    # Steps, Ended or Lost, of a task by name
            ...

Each worker is a new Python (`clipedu.studies.worker`) that does not run the main module again, so a script needs no guard, and a
notebook can start it. Unlike in `concurrent.futures`, a worker that is killed loses its own task alone. Where the block of the pool
is left before all is done, by Ctrl-C too, the workers are asked to stop and waited for, so that each keeps what it has done.
Log lines and warnings of workers are shown here, each once, with the task's name.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from clipedu.studies.worker import Do, Ended, Ready, Said, Start, Steps, Stop
from clipedu.utils.errors import ClipeduError
from clipedu.utils.interrupts import Terminated

_BEGIN = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from clipedu.studies.worker import main; main()"
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PATIENCE = 10.0  # seconds in which a worker without a task has to end

log = logging.getLogger("clipedu")


@dataclass(frozen=True)
class Task:
    """What a worker is to do.

    Attributes:
        name: by which it is told from the others.
        arguments: of the function of the pool, after what is shared.
        shared: which of the shared objects it needs.
    """

    name: str
    arguments: tuple[Any, ...]
    shared: int = 0


@dataclass(frozen=True)
class Lost:
    """A task whose worker has ended without a word.

    Attributes:
        why: how it has ended.
    """

    why: str


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    task: Task | None = None
    ready: bool = False
    stopping: bool = False

    def send(self, message: Any) -> None:
        """Send a message; that the worker has ended is noticed elsewhere."""
        assert self.process.stdin is not None
        with suppress(OSError, ValueError):
            pickle.dump(message, self.process.stdin)
            self.process.stdin.flush()


class _Trace(Exception):
    """Where an error was raised in a worker."""

    def __str__(self) -> str:
        return f"\n\n{self.args[0]}"


@dataclass
class Pool:
    """Workers that call one function.

    Attributes:
        function: "module:name"; called as `function(shared, *task.arguments, on_steps=...)`.
        jobs: how many tasks at once.
        threads: of torch and of BLAS in each worker.
    """

    function: str
    jobs: int
    threads: int = 1
    _workers: list[_Worker] = field(default_factory=list)
    _inbox: queue.SimpleQueue[tuple[_Worker, Any]] = field(default_factory=queue.SimpleQueue)
    _said: set[str] = field(default_factory=set)
    _warned: dict[Any, Any] = field(default_factory=dict)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop(signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)

    def run(
        self, tasks: Iterable[Task], shared: Callable[[int], Path]
    ) -> Generator[tuple[str, Steps | Ended | Lost], None, None]:
        """Do tasks, in this order as workers are free; yield what happens.

        A worker that was killed is not replaced as long as there is another one: what kills it is most often the system, where
        memory is short.

        Args:
            tasks: the names are distinct.
            shared: returns the file of a shared object, by the task's number; called when a task first needs it.
        Yields:
            the task's name, with `Steps` as it goes on, and in the end `Ended` or `Lost`.
        Raises:
            ClipeduError: no worker can be started.
        """
        todo = deque(tasks)
        for _ in range(min(self.jobs, len(todo))):
            self._start()
        for worker in list(self._workers):
            self._give(worker, todo, shared)
        while any(worker.task for worker in self._workers):
            worker, message = self._inbox.get()
            task = worker.task
            if message is None:
                self._forget(worker)
            if isinstance(message, Said):
                self._show(worker, message)
            elif isinstance(message, Steps) and task:
                yield task.name, message
            elif isinstance(message, Ended) and task and not isinstance(message.error, KeyboardInterrupt):
                worker.task = None
                self._give(worker, todo, shared)
                yield task.name, message
            elif task:  # it has ended, or is about to: somebody has stopped it
                worker.task, worker.stopping = None, True
                lost = Lost(self._how(worker, message))
                if todo and not any(other.task for other in self._workers):
                    self._give(self._start(), todo, shared)
                yield task.name, lost

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop all workers, and wait until they have ended.

        Those that are at a task get a signal; a second Ctrl-C meanwhile goes to them too, a third one ends them at once.
        """
        again = 0
        while self._workers:
            try:
                for worker in self._workers:
                    if not worker.stopping:
                        worker.stopping = True
                        if worker.ready:
                            worker.send(Stop(number) if worker.task else None)
                        else:
                            worker.process.kill()  # there is nothing to keep
                worker, message = self._inbox.get(timeout=PATIENCE if not any(w.task for w in self._workers) else None)
                if isinstance(message, Said):
                    self._show(worker, message)
                elif message is None:
                    self._forget(worker)
                elif isinstance(message, Ended):
                    worker.task = None
            except queue.Empty:
                self._kill()
            except KeyboardInterrupt:
                again += 1
                if again > 1:
                    self._kill()
                for worker in self._workers:
                    worker.send(Stop(signal.SIGINT))

    def _kill(self) -> None:
        for worker in self._workers:
            worker.process.kill()

    def _start(self) -> _Worker:
        """Start a worker, which gets its tasks later."""
        environment = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
        environment |= dict.fromkeys(THREADS, str(self.threads))
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", _BEGIN, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C in a terminal goes to the parent alone
            )
        except OSError as error:
            raise ClipeduError(f"no process can be started ({error.strerror}): give --jobs 1") from None
        worker = _Worker(process)
        self._workers.append(worker)
        worker.send(Start(self.function, self.threads, log.getEffectiveLevel(), list(sys.argv)))
        threading.Thread(target=self._read, args=(worker,), daemon=True).start()
        return worker

    def _read(self, worker: _Worker) -> None:
        """Put what a worker says into the inbox, and None when it has ended."""
        stream = worker.process.stdout
        assert stream is not None
        with stream, suppress(Exception):  # cut off anywhere, in the middle of a message too
            while True:
                message = pickle.load(stream)
                if isinstance(message, Ready):
                    worker.ready = True  # at once, however long the caller is busy
                else:
                    self._inbox.put((worker, message))
        self._inbox.put((worker, None))

    def _give(self, worker: _Worker, todo: deque[Task], shared: Callable[[int], Path]) -> None:
        """Give a worker its next task, or let it end where there is none."""
        if not todo:
            worker.stopping = True
            worker.send(None)
            return
        path = shared(todo[0].shared)
        worker.task = todo.popleft()
        worker.send(Do(path, worker.task.arguments))

    def _how(self, worker: _Worker, last: Ended | None) -> str:
        """Return how a worker has ended in the middle of its task.

        Raises:
            ClipeduError: it has not even begun.
        """
        if last is not None:
            return f"its process was stopped{' by SIGTERM' if isinstance(last.error, Terminated) else ''}"
        code = worker.process.wait()
        if code > 0 and not worker.ready:
            raise ClipeduError(f"no process can be started (exit code {code}, see above): give --jobs 1")
        if code >= 0:
            return f"its process has ended with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"its process was killed by {name}" + ", as the system does where memory is short" * (name == "SIGKILL")

    def _forget(self, worker: _Worker) -> None:
        worker.process.wait()
        if worker in self._workers:
            self._workers.remove(worker)
        assert worker.process.stdin is not None
        with suppress(OSError):
            worker.process.stdin.close()

    def _show(self, worker: _Worker, said: Said) -> None:
        """Show a log line or a warning, if no worker has said it before."""
        if said.category is not None:
            warnings.warn_explicit(said.text, said.category, said.file, said.line, registry=self._warned)
        elif said.text not in self._said:
            self._said.add(said.text)
            log.log(said.level, "%s%s", f"{worker.task.name}: " if worker.task else "", said.text)


def raised(ended: Ended) -> BaseException | None:
    """Return the error of a task, with its place in the worker as the cause."""
    if ended.error is not None and ended.trace:
        ended.error.__cause__ = _Trace(ended.trace)
    return ended.error
