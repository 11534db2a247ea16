"""Ctrl-C and SIGTERM during a step: real signals."""

import os
import signal
import threading
import time

import pytest

from clipedu.utils.interrupts import StopAfterStep, Terminated, by_whom, interruptible, terminable


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


def test_sigterm_lets_the_step_end_too_and_a_second_one_is_ignored():
    before, stop, seen = signal.getsignal(signal.SIGTERM), StopAfterStep(), []

    def terminated():
        for step in range(5):
            for _ in range(2 * (step == 1)):
                signal.raise_signal(signal.SIGTERM)
            yield step

    with pytest.raises(Terminated) as caught:
        for record in stop.watch(terminated()):
            seen.append(record)
    assert seen == [0, 1] and stop.step_is_whole and by_whom(caught.value) == "by SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before
    assert by_whom(KeyboardInterrupt()) == "by the user"
    with pytest.raises(Terminated):  # another loop hears it again
        list(StopAfterStep().watch(terminated()))


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_between_steps_a_signal_is_heard_at_once(number, error):
    stop, seen = StopAfterStep(), []
    with pytest.raises(error):
        for record in stop.watch(range(3)):
            seen.append(record)
            with stop.at_once():
                signal.raise_signal(number)
                seen.append("not reached")
    assert seen == [0] and stop.step_is_whole


def test_a_signal_during_the_step_is_heard_before_what_comes_between():
    stop, seen = StopAfterStep(), []
    with pytest.raises(KeyboardInterrupt):
        for record in stop.watch(steps(3, press=[1])):
            with stop.at_once():
                seen.append(record)
    assert seen == [0] and stop.step_is_whole


def test_sigterm_is_a_ctrl_c_in_the_block_alone():
    with pytest.raises(Terminated), terminable(), terminable():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # while what is done is being kept
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_handler_of_somebody_else_stays():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        with terminable():
            list(StopAfterStep().watch(signal.raise_signal(signal.SIGTERM) for _ in range(2)))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [1, 1]


def test_a_child_that_was_forked_ends_as_ever():
    read, write = os.pipe()
    with terminable():
        child = os.fork()
        if child == 0:
            os.write(write, b"up")
            time.sleep(60)
            os._exit(0)
        os.read(read, 2)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
