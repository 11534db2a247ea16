"""Several processes: who they are, what they agree on, and how they end."""

import os
import socket
import subprocess
import sys
import textwrap

import pytest

from clipedu.utils import ranks
from clipedu.utils.ranks import check_one_process, first_alone, is_first, joined, launched, meet, most, of_first
from clipedu.utils.ranks import rank, together, world
from tests.helpers.errors import message_of


@pytest.mark.parametrize("size", ["1", "", "none", "0", "-2", None])
def test_one_process_is_fine(monkeypatch, size):
    if size is None:
        monkeypatch.delenv("WORLD_SIZE", raising=False)
    else:
        monkeypatch.setenv("WORLD_SIZE", size)
    check_one_process()
    with joined(), first_alone():
        meet()
        assert (launched(), world(), rank(), is_first(), most(3), of_first(lambda: "x")) == (1, 1, 0, True, 3, "x")
        assert list(together(range(3))) == [0, 1, 2]


def test_one_of_several_is_refused_where_one_is_needed(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    message = message_of(check_one_process, "a grid")
    assert "a grid is done in one process, and this is RANK=2 of WORLD_SIZE=4" in message


def test_an_environment_that_does_not_say_where_the_others_are(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")

    def join():
        with joined():
            pass

    assert "RANK, MASTER_ADDR, MASTER_PORT is not set" in message_of(join)


def test_an_error_of_the_block_is_passed_on_and_generators_are_closed():
    closed = []

    def items():
        try:
            yield from range(9)
        finally:
            closed.append(True)

    records = together(items())
    next(records)
    records.close()
    assert closed == [True]
    with pytest.raises(RuntimeError, match="gloo is a word of ours"):  # alone, no other process can be to blame
        list(together(fail() for _ in range(1)))


def fail():
    raise RuntimeError("gloo is a word of ours")


START = """
    import os, sys, time
    from clipedu.utils.errors import ClipeduError
    from clipedu.utils.finite import NotFinite
    from clipedu.utils.ranks import first_alone, joined, meet, most, of_first, rank, together
    number = int(os.environ["RANK"])
    def steps():
        for step in range(3):
            most(0)
            yield step
"""


def run(body: str) -> list[tuple[int, str, str]]:
    """What two processes answer: exit code, stdout and the last line of stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = textwrap.dedent(START) + "with joined():\n" + textwrap.indent(textwrap.dedent(body), "    ")
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program], env={**shared, "RANK": str(n), "LOCAL_RANK": str(n)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for n in range(2)
    ]  # fmt: skip
    ends = [process.communicate(timeout=120) for process in both]
    return [
        (process.returncode, out, (error.strip().splitlines() or [""])[-1])
        for process, (out, error) in zip(both, ends, strict=True)
    ]


def test_what_two_processes_agree_on():
    first, second = run("""
        with first_alone():
            time.sleep(0 if number else 0.5)
            made = time.time()
        print(most(number), of_first(lambda: "a" if number == 0 else "b"), list(together(steps())), sep=";")
        print(made)
    """)
    assert first[0] == second[0] == 0
    assert first[1].splitlines()[0] == second[1].splitlines()[0] == "1;a;[0, 1, 2]"
    assert float(first[1].splitlines()[1]) < float(second[1].splitlines()[1])


@pytest.mark.parametrize(
    "body, codes, heard",
    [
        ("raise ClipeduError('of both')", (1, 0), ("of both", "")),
        ("raise NotFinite('of both')", (1, 0), ("of both", "")),
        ("if number == 0: raise ClipeduError('of one')\nlist(together(steps()))", (1, 0), ("of one", "")),
        ("if number == 1: raise ClipeduError('of one')\nlist(together(steps()))", (2, 1), ("", "of one")),
        ("if number == 1: os._exit(9)\nlist(together(steps()))", (1, 9), ("it was killed, or its machine is lost", "")),
        ("if number == 0: os._exit(9)\nlist(together(steps()))", (9, 1), ("", "it was killed, or its machine is lost")),
    ],
)
def test_an_end_is_heard_once(body, codes, heard):
    for (code, _, line), expected, words in zip(run(body), codes, heard, strict=True):
        assert code == expected and line.endswith(words) and (words or not line), line


def test_only_the_first_process_writes(monkeypatch):
    ranks.check_first_process()
    monkeypatch.setattr(ranks, "_joined", object())
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    assert "RANK=1 writes nothing" in message_of(ranks.check_first_process)
