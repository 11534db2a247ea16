"""Feeding: the same batches made ahead, errors reach the loop, and no thread is left behind."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from clipedu.data.batches import Batch, Precomputed, batches
from clipedu.data.prefetch import DEPTH, Prefetch, feed, hold
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.tokenizer import train_tokenizer
from clipedu.utils.errors import ClipeduError


def simple(count: int, made: list | None = None, broken_at: int | None = None):
    for number in range(count):
        if number == broken_at:
            raise ClipeduError(f"batch {number} cannot be read")
        if made is not None:
            made.append(number)
        index = torch.tensor([number])
        yield Batch(index, (index.float(),), (index,))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "clipedu-prefetch"]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind():
    yield
    gc.collect()
    assert threads() == []


def until(condition) -> bool:
    """Wait for a condition, five seconds at most."""
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def numbers(source) -> list[int]:
    return [int(batch.index) for batch in source]


@pytest.fixture(scope="module")
def scenes():
    pairs = Scenes("train", 70)
    return pairs.tokenize(train_tokenizer([caption for row in range(70) for caption in pairs.captions(row)], 16))


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("skip", [0, 3])
def test_bit_for_bit_the_batches_of_the_plain_loop(scenes, depth, skip):
    settings = {"batch_size": 8, "seed": 3, "epoch": 1, "skip": skip}
    plain, ahead = list(batches(scenes, **settings)), list(Prefetch(batches(scenes, **settings), depth=depth))
    assert len(plain) == len(ahead) == 8 - skip
    for one, two in zip(plain, ahead, strict=True):
        both = zip((one.index, *one.image, *one.text), (two.index, *two.image, *two.text), strict=True)
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in both)
        assert (one.first, one.of) == (two.first, two.of)


def test_the_global_random_state_is_neither_used_nor_changed(scenes):
    before = torch.get_rng_state()
    list(Prefetch(batches(scenes, batch_size=8, seed=0, epoch=0)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_so_many_batches_are_made_ahead_and_no_more(depth):
    made: list[int] = []
    source = Prefetch(simple(20, made), depth=depth)
    assert until(lambda: len(made) == depth)
    next(source)
    assert until(lambda: len(made) == depth + 1)
    time.sleep(0.05)
    assert len(made) == depth + 1
    source.close()


def test_an_empty_source_and_the_end():
    source = Prefetch(simple(0))
    assert numbers(source) == []
    with pytest.raises(StopIteration):
        next(source)
    source = Prefetch(simple(3))
    assert numbers(source) == [0, 1, 2] and threads() == []
    with pytest.raises(StopIteration):
        next(source)


def test_an_error_in_the_thread_reaches_the_loop_after_the_batches_before_it():
    source, got = Prefetch(simple(9, broken_at=4)), []
    with pytest.raises(ClipeduError, match="batch 4 cannot be read") as caught:
        for batch in source:
            got.append(int(batch.index))
    assert got == [0, 1, 2, 3] and threads() == []
    assert "simple" in [entry.name for entry in caught.traceback]  # where it happened can be seen
    with pytest.raises(StopIteration):
        next(source)


def test_exits_of_the_thread_reach_the_loop_too():
    def stops():
        yield from simple(1)
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        numbers(Prefetch(stops()))


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_an_abandoned_iterator_leaves_no_thread(taken):
    made: list[int] = []

    def loop():
        source = Prefetch(simple(1000, made))
        for _ in range(taken):
            next(source)
        assert threads()

    loop()
    gc.collect()
    assert until(lambda: threads() == [])
    assert len(made) <= taken + DEPTH


def test_a_loop_that_breaks_or_fails_leaves_no_thread():
    def broken():
        for batch in Prefetch(simple(1000)):
            if batch.index == 5:
                raise RuntimeError("in the loop")

    with pytest.raises(RuntimeError, match="in the loop"):
        broken()
    gc.collect()
    assert until(lambda: threads() == [])


def test_close_may_be_called_twice_and_ends_the_iteration():
    source = Prefetch(simple(10))
    next(source)
    source.close()
    source.close()
    assert threads() == [] and numbers(source) == []


def test_waiting_is_counted():
    def slow():
        for batch in simple(3):
            time.sleep(0.03)
            yield batch

    source = Prefetch(slow())
    numbers(source)
    assert source.waited >= 0.08
    source = Prefetch(simple(3))
    assert until(lambda: source._made.qsize() == 2)
    next(source)
    assert 0 < source.waited < 0.03
    source.close()


def test_a_depth_of_nothing():
    with pytest.raises(ClipeduError, match="depth=0 cannot be used"):
        Prefetch(simple(1), depth=0)


def test_batches_arrive_on_the_device():
    (batch,) = Prefetch(simple(1), "meta")
    assert batch.image[0].device.type == "meta" and batch.index.device.type == "cpu"


SCRIPT = """
import itertools, sys, time
import torch
from clipedu.data.batches import Batch
from clipedu.data.prefetch import Prefetch

def endless():
    for number in itertools.count():
        index = torch.tensor([number])
        if number == 3:
            time.sleep({pause})
        yield Batch(index, (index,), (index,))

source = Prefetch(endless())
for batch in source:
    print(int(batch.index), flush=True)
    if int(batch.index) == {last}:
        break
"""


def test_ctrl_c_while_waiting_for_a_batch_ends_the_program():
    child = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(pause=2, last=-1)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert [child.stdout.readline() for _ in range(3)] == ["0\n", "1\n", "2\n"]
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode != 0 and errors.strip().endswith("KeyboardInterrupt")


def test_a_program_that_ends_in_the_middle_ends():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(pause=0, last=7)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stderr == ""


# holding the whole set


def test_a_set_that_fits_is_held_and_logged_once(scenes, caplog):
    caplog.set_level("INFO", "clipedu")
    needed = 70 * 3 * 32 * 32
    held = hold(scenes, "cpu", free=4 * needed)
    assert held.dtype == torch.uint8 and torch.equal(held, scenes.pixels(torch.arange(70)))
    (line,) = caplog.messages
    assert "scenes/train is held on cpu" in line and "70 x 32 px" in line


def test_a_set_that_takes_more_than_a_quarter_is_not_held(scenes, caplog):
    caplog.set_level("INFO", "clipedu")
    assert hold(scenes, "cpu", free=4 * 70 * 3 * 32 * 32 - 1) is None
    assert len(caplog.messages) == 1 and "read batch by batch" in caplog.messages[0]


def test_on_the_cpu_nothing_is_held_and_nothing_logged(scenes, caplog):
    caplog.set_level("INFO", "clipedu")
    assert hold(scenes, "cpu") is None and caplog.messages == []


def test_holding_goes_in_chunks(scenes, monkeypatch):
    whole = scenes.pixels(torch.arange(70))
    asked: list[int] = []
    monkeypatch.setattr("clipedu.data.prefetch.CHUNK_BYTES", 3 * 32 * 32 * 16)
    monkeypatch.setattr(scenes, "pixels", lambda index: asked.append(len(index)) or whole[index])
    held = hold(scenes, "cpu", free=2**40)
    assert asked == [16, 16, 16, 16, 6] and torch.equal(held, whole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_both_ways_give_the_batches_of_the_plain_loop(scenes):
    settings = {"batch_size": 8, "seed": 3, "epoch": 1}
    device = torch.device("cuda")
    held = hold(scenes, device)
    plain = list(batches(scenes, **settings))
    for fed in (batches(scenes, **settings), batches(scenes, precomputed=Precomputed(held), **settings)):
        for one, two in zip(plain, Prefetch(fed, device), strict=True):
            assert {t.device.type for t in (*two.image, *two.text)} == {"cuda"}
            assert torch.equal(one.image[0], two.image[0].cpu()) and torch.equal(one.text[0], two.text[0].cpu())


def test_the_cpu_gets_its_batches_without_a_thread(scenes):
    source = batches(scenes, batch_size=16, seed=0, epoch=0)
    assert feed(source, "cpu") is source
    before = threading.active_count()
    assert len(list(source)) == 4 and threading.active_count() == before


def test_another_device_gets_them_ahead():
    ahead = feed(iter(()), "meta")
    assert isinstance(ahead, Prefetch) and list(ahead) == []
