"""Feeding: the next batches are made while the device works on this one, so that it never waits.

Two ways, by the size of the data:

    held       the whole set lies on the GPU as uint8, and a batch is a gather there. 100k pictures of 176 px are 9.3 GB.
    prefetch   a background thread gathers the next two batches from the map on disk into pinned memory (which the GPU can
               read by itself while the host goes on), and the loop takes them.

Neither changes a number: order, captions and augmentation come from the seed, not from who is first. A thread is enough,
because numpy and torch let go of Python's lock while they copy; processes, as a DataLoader starts them, would have to send
every picture once more.

    with closing(feed(batches(pairs, batch_size=128, seed=0, epoch=0), device)) as source:
        for batch in source:
            ...

Where the device is the CPU itself there is nothing to hide behind: a thread would only take a core from the step (on two cores
the laptop preset's steps took 30 % longer), so there `feed` hands the batches through.
"""

from __future__ import annotations

import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from tqdm.auto import tqdm

from clipedu.data.batches import Batch
from clipedu.data.pairs import Pairs
from clipedu.utils.errors import ClipeduError

DEPTH = 2  # batches made ahead
HOLD = 0.25  # of the device's free memory, at most, for pixels
CHUNK_BYTES = 64 << 20  # moved at once

_END = object()


class Prefetch(Iterator[Batch]):
    """The batches of `source`, made ahead by a background thread, and handed out on `device`.

    An error in the thread is raised where the batch was asked for. The thread ends with the last batch, with `close()`,
    when the iterator is forgotten (an abandoned loop, Ctrl-C) and when Python exits.

    Args:
        source: yields batches on the CPU; used in the thread only.
        device: where the loop wants them. For a GPU they are pinned in the thread and copied without waiting.
        depth: how many batches are made ahead, at least 1.
    Attributes:
        waited: seconds that the loop has waited for a batch so far.
    """

    def __init__(self, source: Iterator[Batch], device: torch.device | str = "cpu", *, depth: int = DEPTH):
        if depth < 1:
            raise ClipeduError(f"depth={depth} cannot be used: at least 1 batch has to be made ahead")
        self.device, self.waited = torch.device(device), 0.0
        pin = self.device.type == "cuda"
        self._made: queue.SimpleQueue = queue.SimpleQueue()
        room, stop = threading.Semaphore(depth), threading.Event()
        self._room, self._over = room, False
        # The thread knows the queue but not this object, so that it can be forgotten while the thread still runs.
        thread = threading.Thread(
            target=_work, args=(source, pin, self._made, room, stop), name="clipedu-prefetch", daemon=True
        )
        self._finish = weakref.finalize(self, _finish, thread, room, stop)
        thread.start()

    def __next__(self) -> Batch:
        if self._over:
            raise StopIteration
        began = time.perf_counter()
        made = self._made.get()
        self.waited += time.perf_counter() - began
        if isinstance(made, Batch):
            self._room.release()
            return made.to(self.device)
        self.close()
        if made is _END:
            raise StopIteration
        raise made

    def close(self) -> None:
        """End the thread, and wait until it has ended. The batches it made ahead are dropped."""
        self._over = True
        self._finish()


def feed(source: Iterator[Batch], device: torch.device | str) -> Iterator[Batch]:
    """The batches of a generator on `device`: prefetched for a GPU, one by one for the CPU. Close it when it is abandoned."""
    return Prefetch(source, device) if torch.device(device).type != "cpu" else source


def _work(
    source: Iterator[Batch], pin: bool, made: queue.SimpleQueue, room: threading.Semaphore, stop: threading.Event
) -> None:
    try:
        while True:
            room.acquire()
            if stop.is_set():
                return
            batch = next(source, None)
            if batch is None:
                made.put(_END)
                return
            made.put(batch.map(_pinned) if pin else batch)
    except BaseException as error:  # noqa: BLE001  whatever it is, the loop has to hear of it
        made.put(error)


def _finish(thread: threading.Thread, room: threading.Semaphore, stop: threading.Event) -> None:
    stop.set()
    room.release()
    if thread is not threading.current_thread():
        thread.join()


def _pinned(tensor: Tensor) -> Tensor:
    return tensor.pin_memory() if tensor.device.type == "cpu" else tensor


def hold(
    pairs: Pairs,
    device: torch.device | str,
    *,
    free: int | None = None,
    progress: bool = True,
    tell: Callable[[str], None] | None = None,
) -> Tensor | None:
    """All pixels on the device, uint8 [N, 3, H, W], if they take at most a quarter of its free memory; else None.

    Never on the CPU: there the map on disk is as near. What was decided is told in one line.

    Args:
        free: bytes that the device has free; None asks it.
        tell: gets the line; by default it is written as tqdm writes, above a progress bar.
    """
    device = torch.device(device)
    needed = len(pairs) * 3 * pairs.image_size**2
    free = _free(device) if free is None else free
    if free == 0:
        return None
    tell = tell or (lambda line: tqdm.write(line))
    sizes = f"{needed / 2**30:.2f} GiB of pixels ({len(pairs):,} x {pairs.image_size} px), {free / 2**30:.1f} GiB free"
    if needed > HOLD * free:
        tell(f"{pairs.name}/{pairs.split} is read batch by batch: {sizes} on {device}")
        return None
    tell(f"{pairs.name}/{pairs.split} is held on {device}: {sizes}")
    held = torch.empty(len(pairs), 3, pairs.image_size, pairs.image_size, dtype=torch.uint8, device=device)
    rows = max(1, CHUNK_BYTES // (3 * pairs.image_size**2))
    starts = tqdm(range(0, len(pairs), rows), desc=f"holding {pairs.name}", disable=not progress, leave=False, delay=2)
    for start in starts:
        index = torch.arange(start, min(start + rows, len(pairs)))
        held[start : start + len(index)] = pairs.pixels(index).to(device)
    return held


def _free(device: torch.device) -> int:
    """Bytes that can still be allocated on a GPU; 0 for a device on which nothing is to be held."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
