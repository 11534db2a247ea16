"""Several processes that make one run: who am I, and what do all say?

torchrun, `accelerate launch` and `notebook_launcher` start the same program N times, and number the processes (ranks) 0 to N - 1
in their environment. `joined` connects them. All compute; the first one alone writes and speaks.

Two process groups are used. Gradients go through the default one (NCCL between GPUs, Gloo between CPUs). What the processes agree
on goes through another one, of Gloo, whose members may wait for hours while the first one decodes images or scores a model.

In one process each function here does nothing, and torch is not imported.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from clipedu.utils.errors import ClipeduError

T = TypeVar("T")

WAIT = timedelta(days=1)  # for the first process: it may decode a data set, or score on a large one
FOR_THE_FIRST = timedelta(seconds=5)  # to say why the run has ended, before another process does
FOR_ITS_FILES = timedelta(minutes=5)  # where all have ended alike, and the first one writes

log = logging.getLogger("clipedu")


class ProcessLost(ClipeduError):
    """Another process of the run has ended."""


@dataclass
class _Joined:
    """The processes of a run, connected: a group to agree in, and a store for last words."""

    control: Any
    store: Any = None


_joined: _Joined | None = None


def launched() -> int:
    """Return how many processes were started together.

    It is WORLD_SIZE of the environment; 1 without it.
    """
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if size.isdigit() and int(size) > 1 else 1


def check_one_process(what: str = "this") -> None:
    """Refuse to be one of several processes of torchrun.

    Args:
        what: is to be done, for the message.
    Raises:
        ClipeduError: WORLD_SIZE in the environment is more than 1, and the processes are not `joined`.
    """
    if launched() > 1:
        raise ClipeduError(
            f"{what} is done in one process, and this is RANK={os.environ.get('RANK', '?')} of WORLD_SIZE={launched()}: "
            "start it without torchrun, or unset WORLD_SIZE. In several processes: clipedu train"
        )


def check_first_process() -> None:
    """Check that this process may write.

    It is the only one, or the first of those that are joined.

    Raises:
        ClipeduError: it is not.
    """
    if _joined is None:
        check_one_process("writing into a folder")
    elif not is_first():
        raise ClipeduError(f"RANK={rank()} writes nothing into a run's folder: RANK=0 does")


def world() -> int:
    """Return how many processes are joined; 1 if there is no other."""
    return _dist().get_world_size() if _joined is not None else 1


def rank() -> int:
    """Return the number of this process, 0 to `world` - 1."""
    return _dist().get_rank() if _joined is not None else 0


def is_first() -> bool:
    """Return whether this process is the one that writes and speaks."""
    return rank() == 0


def local_rank() -> int | None:
    """Return the number of this process on its machine; None if it is alone.

    It is that of its GPU, too.
    """
    if _joined is None:
        return None
    number = os.environ.get("LOCAL_RANK", "")
    return int(number) if number.isdigit() else rank()


@contextmanager
def joined() -> Iterator[None]:
    """Connect the processes that were started together, for the block.

    It may be entered again inside, and does nothing in one process. A process group that is there already (Accelerate's) is used.
    If the block fails in all processes the first one raises the error, and the others end quietly; if it fails in one of the
    others that one raises, and the first one raises `ProcessLost` where it next needs it.

    Raises:
        ClipeduError: the environment does not say how to connect, or there are fewer GPUs than processes.
    """
    global _joined
    if _joined is not None or not (_is_initialised() or launched() > 1):
        yield
        return
    _use_one_thread_if_forked()
    own = not _is_initialised()
    store = _connect() if own else None
    _joined = _Joined(None, store)
    level = log.level
    if not is_first():
        log.setLevel(logging.ERROR)
    failed = True
    try:
        with _alive():
            _joined.control = _dist().new_group(backend="gloo", timeout=WAIT)
        yield
        _part(None)
        failed = False
    except BaseException as error:
        _part(error)
        raise
    finally:
        log.setLevel(level)
        _joined = None
        if own and not (failed and _uses_gpus()):  # NCCL would wait for the others
            with suppress(Exception):
                _dist().destroy_process_group()


def meet() -> None:
    """Wait until all processes are here.

    Raises:
        ProcessLost: one of them has ended.
    """
    most(0)


def most(value: int) -> int:
    """Return the largest value that any process gives; all get the same.

    Raises:
        ProcessLost: one of them has ended.
    """
    if _joined is None:
        return value
    import torch

    given = torch.tensor(value)
    with _alive():
        _dist().all_reduce(given, op=_dist().ReduceOp.MAX, group=_joined.control)
    return int(given)


def of_first(make: Callable[[], T]) -> T:
    """Return what the first process makes, in all processes.

    It must be possible to pickle it.

    Raises:
        ProcessLost: one of them has ended.
    """
    if _joined is None:
        return make()
    values = [make() if is_first() else None]
    with _alive():
        _dist().broadcast_object_list(values, src=0, group=_joined.control)
    value: Any = values[0]
    return value


@contextmanager
def first_alone() -> Iterator[None]:
    """Let the first process of each machine do the block before the others.

    They then find its files.

    Raises:
        ProcessLost: one of them has ended.
    """
    first = not local_rank()
    if not first:
        meet()
    yield
    if first:
        meet()


def together(records: Iterable[T]) -> Generator[T, None, None]:
    """Pass on what all processes make in step; begin when all are there.

    Raises:
        ProcessLost: one of them has ended.
    """
    meet()
    items = iter(records)
    try:
        while True:
            try:
                with _alive():
                    item = next(items)
            except StopIteration:
                return
            yield item
    finally:
        if isinstance(items, Generator):
            items.close()


def _use_one_thread_if_forked() -> None:
    """Let a forked process compute in one thread, as one of torchrun does.

    OpenMP's threads do not come with a fork: where the process before it had used them (a notebook), the first loop that is shared
    among threads would wait for them without end.
    """
    if getattr(multiprocessing.current_process(), "_start_method", None) != "fork":
        return
    import torch

    torch.set_num_threads(1)
    with suppress(ImportError):  # scikit-learn's, which has it
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)


def _dist() -> Any:
    import torch.distributed

    return torch.distributed


def _is_initialised() -> bool:
    if "torch.distributed" not in sys.modules:
        return False
    return _dist().is_available() and _dist().is_initialized() and _dist().get_world_size() > 1


def _uses_gpus() -> bool:
    return "nccl" in _dist().get_backend_config()


def _connect() -> Any:
    """Make the default process group from the environment, and return its store."""
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise ClipeduError(
            f"WORLD_SIZE={launched()}, but {', '.join(missing)} is not set, so the processes cannot find each other: start them "
            f"with torchrun --nproc-per-node {launched()} -m clipedu train ..., or unset WORLD_SIZE for one process"
        )
    import torch

    dist = _dist()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() and dist.is_nccl_available() else 0
    local = int(os.environ.get("LOCAL_RANK") or os.environ["RANK"])
    if local < gpus:
        torch.cuda.set_device(local)
    try:
        store, number, size = next(dist.rendezvous("env://"))
        store = dist.PrefixStore("clipedu", store)
        backend = "cpu:gloo,cuda:nccl" if gpus else "gloo"
        dist.init_process_group(backend, store=store, rank=number, world_size=size, timeout=timedelta(hours=1))
    except (RuntimeError, ValueError) as error:
        why = str(error).splitlines()[0][:200]
        raise ClipeduError(
            f"RANK={os.environ['RANK']} of WORLD_SIZE={launched()} cannot reach the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}: {why}"
        ) from None
    return store


@contextmanager
def _alive() -> Iterator[None]:
    """Say in a line that another process has ended, where a library says it in its own words."""
    try:
        yield
    except RuntimeError as error:
        if _joined is None or isinstance(error, ClipeduError) or not _is_of_the_network(error):
            raise
        _ignore_sigterm()  # the launcher is about to send it, and what is done is still to be kept
        raise ProcessLost(_who_was_lost()) from None


def _is_of_the_network(error: RuntimeError) -> bool:
    kinds = tuple(kind for name in ("DistError", "DistBackendError") if (kind := getattr(_dist(), name, None)))
    return (
        isinstance(error, kinds)
        or re.search(r"gloo|nccl|connection (was )?(closed|reset)", str(error), re.I) is not None
    )


def _who_was_lost() -> str:
    assert _joined is not None
    if _joined.store is not None:
        with suppress(Exception):
            for other in range(world()):
                if other != rank() and _joined.store.check([f"why/{other}"]):
                    return f"process {other} of this run (0 to {world() - 1}) has failed: {_joined.store.get(f'why/{other}').decode()}"
    return f"another of the {world()} processes of this run has ended, without a word: it was killed, or its machine is lost"


def _part(error: BaseException | None) -> None:
    """Leave the others: the first process says how it ended, the others wait for that.

    Raises:
        SystemExit: another process has said, or says, why the run has ended.
    """
    assert _joined is not None
    store = _joined.store
    if error is not None:
        _ignore_sigterm()
    if store is None or isinstance(error, SystemExit) and not error.code:
        return
    try:
        if is_first():
            speaks = error is None or store.add("said", 1) == 1
            store.set("end", "well" if error is None else "not well")
            if error is not None and world() > 1:  # the store may end with this process: let the others read it
                with suppress(RuntimeError):
                    store.wait([f"left/{other}" for other in range(1, world())], FOR_THE_FIRST)
            if not speaks:
                raise SystemExit(2)
            return
        if error is not None:
            store.set(f"why/{rank()}", " ".join(str(error).split())[:500] or type(error).__name__)
        alike = error is None or isinstance(error, KeyboardInterrupt) or _is_not_finite(error)
        has_ended = _ended(store, FOR_ITS_FILES if alike else FOR_THE_FIRST)
        with suppress(RuntimeError):
            store.set(f"left/{rank()}", "")
        if has_ended:
            if error is not None:
                raise SystemExit(0)  # so that the launcher reports the first one
        elif error is not None and store.add("said", 1) > 1:
            raise SystemExit(2)
    except RuntimeError:  # the store is gone: so is the launcher
        return


def _is_not_finite(error: BaseException) -> bool:
    from clipedu.utils.finite import NotFinite  # imports torch

    return isinstance(error, NotFinite)


def _ended(store: Any, wait: timedelta) -> bool:
    """Return whether the first process says within this time that it has ended."""
    try:
        store.wait(["end"], wait)
    except RuntimeError:
        return False
    return True


def _ignore_sigterm() -> None:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
