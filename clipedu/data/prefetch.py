"""Prefetching: make the next batches while the device works.

    hold       the whole set is on the GPU as uint8, and a batch is a gather there. 100k images of 176 px are 9.3 GB.
    Prefetch   a background thread gathers the next two batches from the memory map into pinned memory.

Neither changes a number: order, captions and augmentation come from the seed. A thread is enough, because numpy and torch
release Python's lock while they copy; the processes of a DataLoader would copy every image once more.

    with closing(feed(batches(pairs, batch_size=128, seed=0, epoch=0), device)) as source:
        for batch in source: ...

On the CPU a thread would take a core from the step (30 % slower on two cores): there `feed` passes the batches through.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import weakref
from collections.abc import Generator, Iterator

import torch
from torch import Tensor
from tqdm.auto import tqdm

from clipedu.data.batches import Batch
from clipedu.data.pairs import Pairs
from clipedu.utils.errors import ClipeduError
from clipedu.utils.logs import show_progress_lines

log = logging.getLogger("clipedu")

DEPTH = 2  # batches made ahead
HOLD = 0.25  # of the device's free memory, at most, for pixels
CHUNK_BYTES = 64 << 20  # moved at once

_END = object()


class Prefetch(Iterator[Batch]):
    """Iterate over batches on a device, made ahead by a background thread.

    An error in the thread is raised where the batch was requested. The thread ends with the last batch, with `close()`,
    when the iterator is garbage collected (an abandoned loop, Ctrl-C) and when Python exits.

    Args:
        source: yields batches on the CPU; used in the thread only.
        device: where the loop needs them. For a GPU they are pinned in the thread and copied asynchronously.
        depth: how many batches are made ahead, at least 1.
    Attributes:
        waited: seconds that the loop has waited for a batch so far.
    Raises:
        ClipeduError: a depth below 1.
    """

    def __init__(self, source: Iterator[Batch], device: torch.device | str = "cpu", *, depth: int = DEPTH):
        if depth < 1:
            raise ClipeduError(f"depth={depth} cannot be used: at least 1 batch has to be made ahead")
        self.device, self.waited = torch.device(device), 0.0
        pin = self.device.type == "cuda"
        self._made: queue.SimpleQueue = queue.SimpleQueue()
        slots, stop = threading.Semaphore(depth), threading.Event()
        self._slots, self._over = slots, False
        # The thread refers to the queue but not to this object, which can so be collected while the thread still runs.
        thread = threading.Thread(
            target=_work, args=(source, pin, self._made, slots, stop), name="clipedu-prefetch", daemon=True
        )
        self._finish = weakref.finalize(self, _finish, thread, slots, stop)
        thread.start()

    def __next__(self) -> Batch:
        if self._over:
            raise StopIteration
        began = time.perf_counter()
        made = self._made.get()
        self.waited += time.perf_counter() - began
        if isinstance(made, Batch):
            self._slots.release()
            return made.to(self.device)
        self.close()
        if made is _END:
            raise StopIteration
        raise made

    def close(self) -> None:
        """End the thread and wait for it; batches made ahead are dropped."""
        self._over = True
        self._finish()


def feed(source: Generator[Batch, None, None], device: torch.device | str) -> Generator[Batch, None, None] | Prefetch:
    """Iterate over batches on `device`, prefetched if it is a GPU.

    `close` it when it is abandoned.
    """
    return Prefetch(source, device) if torch.device(device).type != "cpu" else source


def _work(
    source: Iterator[Batch], pin: bool, made: queue.SimpleQueue, slots: threading.Semaphore, stop: threading.Event
) -> None:
    try:
        while True:
            slots.acquire()
            if stop.is_set():
                return
            batch = next(source, None)
            if batch is None:
                made.put(_END)
                return
            made.put(batch.map(_pinned) if pin else batch)
    except BaseException as error:  # noqa: BLE001  whatever it is, the loop raises it
        made.put(error)


def _finish(thread: threading.Thread, slots: threading.Semaphore, stop: threading.Event) -> None:
    stop.set()
    slots.release()
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
) -> Tensor | None:
    """Copy all pixels to the device if its memory allows.

    They may take a quarter of what is free. On the CPU they never do: the memory map is as fast. The decision is logged
    (logger "clipedu", level INFO).

    Args:
        pairs: N pairs.
        device: where batches are needed.
        free: bytes that the device has free; None queries it.
        progress: show a bar.
    Returns:
        uint8 [N, 3, H, W] on the device, or None.
    """
    show_progress_lines(progress)
    device = torch.device(device)
    needed = len(pairs) * 3 * pairs.image_size**2
    free = _free(device) if free is None else free
    if free == 0:
        return None
    sizes = f"{needed / 2**30:.2f} GiB of pixels ({len(pairs):,} x {pairs.image_size} px), {free / 2**30:.1f} GiB free"
    if needed > HOLD * free:
        log.info("%s/%s is read batch by batch: %s on %s", pairs.name, pairs.split, sizes, device)
        return None
    log.info("%s/%s is held on %s: %s", pairs.name, pairs.split, device, sizes)
    held = torch.empty(len(pairs), 3, pairs.image_size, pairs.image_size, dtype=torch.uint8, device=device)
    rows = max(1, CHUNK_BYTES // (3 * pairs.image_size**2))
    starts = tqdm(range(0, len(pairs), rows), desc=f"holding {pairs.name}", disable=not progress, leave=False, delay=2)
    for start in starts:
        index = torch.arange(start, min(start + rows, len(pairs)))
        held[start : start + len(index)] = pairs.pixels(index).to(device)
    return held


def _free(device: torch.device) -> int:
    """Return the free bytes of a GPU; 0 for other devices (nothing is held)."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
