"""Ctrl-C during a step: a real signal."""

import os
import signal
import threading
import time

import pytest

from clipedu.utils.interrupts import StopAfterStep, interruptible


def steps(count, press=()):
    """Records of steps; Ctrl-C comes during those in `press`, as often as they are named there."""
    for step in range(count):
        for _ in range(list(press).count(step)):
            signal.raise_signal(signal.SIGINT)
        yield step


def test_without_ctrl_c_all_records_come():
    before = signal.getsignal(signal.SIGINT)
    stop = StopAfterStep()
    assert list(stop.watch(steps(3))) == [0, 1, 2] and not stop.asked and stop.step_is_whole
    assert signal.getsignal(signal.SIGINT) is before


def test_one_ctrl_c_lets_the_step_end():
    before, stop, seen = signal.getsignal(signal.SIGINT), StopAfterStep(), []
    with pytest.raises(KeyboardInterrupt):
        for record in stop.watch(steps(5, press=[1])):
            seen.append(record)
    assert seen == [0, 1] and stop.step_is_whole and signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_within_the_step():
    before, stop, seen = signal.getsignal(signal.SIGINT), StopAfterStep(), []
    with pytest.raises(KeyboardInterrupt):
        for record in stop.watch(steps(5, press=[1, 1])):
            seen.append(record)
    assert seen == [0] and not stop.step_is_whole and signal.getsignal(signal.SIGINT) is before


def test_an_error_in_a_step_gives_the_signal_back():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
        list(StopAfterStep().watch(1 / 0 for _ in range(1)))
    assert signal.getsignal(signal.SIGINT) is before


def test_in_another_thread_it_passes_records_on():
    seen = []
    thread = threading.Thread(target=lambda: seen.extend(StopAfterStep().watch(range(3))))
    thread.start()
    thread.join()
    assert seen == [0, 1, 2]


def test_work_in_a_thread_returns_raises_and_leaves_at_ctrl_c():
    assert interruptible(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 / 0)
    end = threading.Event()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    before = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        interruptible(lambda: end.wait(60))
    assert time.perf_counter() - before < 30
    end.set()
