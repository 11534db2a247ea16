"""Several processes: who they are, what they agree on, and how they end."""

import json
import os
import socket
import subprocess
import sys

import pytest

from clipedu.utils import ranks
from clipedu.utils.ranks import (
    check_one_process,
    first_alone,
    is_first,
    joined,
    launched,
    meet,
    most,
    of_first,
    rank,
    together,
    world,
)
from tests.helpers.errors import message_of
from tests.helpers.processes import run_python

pytestmark = pytest.mark.xdist_group("ends")  # what is costly is made once


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


PROGRAM = """
import json, os, sys, time, traceback
import torch, torch.distributed  # once for all
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import NotFinite
from clipedu.utils.ranks import first_alone, joined, meet, most, of_first, rank, together

def steps():
    for step in range(3):
        most(0)
        yield step

def work(number, body):
    code, out = 0, []
    try:
        with joined():
            exec(body, {**globals(), "number": number, "print": lambda *words: out.append(" ".join(map(str, words)))})
    except ClipeduError as error:
        code, out = 1, [str(error)]
    except SystemExit as error:
        code, out = error.code or 0, []
    return code, out

bodies, port, folder = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
children = {}
for k, body in enumerate(bodies):
    for number in range(2):
        os.environ.update(RANK=str(number), LOCAL_RANK=str(number), MASTER_PORT=str(port + k))
        child = os.fork()
        if child == 0:
            code, out = work(number, body)
            with open(f"{folder}/{k}-{number}", "w") as file:
                json.dump(out, file)
            os._exit(code)
        children[child] = (k, number)
ends = [[None, None] for _ in bodies]
for _ in range(len(children)):
    child, status = os.wait()
    k, number = children[child]
    ends[k][number] = os.waitstatus_to_exitcode(status)
print(json.dumps(ends))
"""

AGREE = """
with first_alone():
    time.sleep(0 if number else 0.5)
    made = time.time()
print(most(number), of_first(lambda: "a" if number == 0 else "b"), list(together(steps())))
print(made)
"""
LOST = "another of the 2 processes of this run has ended, without a word: it was killed, or its machine is lost"
ENDS = [  # what is run; exit codes; what is said
    ("raise ClipeduError('of both')", (1, 0), (["of both"], [])),
    ("raise NotFinite('of both')", (1, 0), (["of both"], [])),
    ("if number == 0: raise ClipeduError('of one')\nlist(together(steps()))", (1, 0), (["of one"], [])),
    ("if number == 1: raise ClipeduError('of one')\nlist(together(steps()))", (2, 1), ([], ["of one"])),
    ("if number == 1: os._exit(9)\nlist(together(steps()))", (1, 9), ([LOST], None)),
    ("if number == 0: os._exit(9)\nlist(together(steps()))", (9, 1), (None, [LOST])),
    ("next(together(steps()))\nif number == 1: os._exit(9)\nmost(1)", (1, 9), ([LOST], None)),
]


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """Of each program: exit codes, and what was said; all pairs of processes run at the same time."""
    folder = tmp_path_factory.mktemp("ends")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] - 20
    bodies = [AGREE, *(body for body, *_ in ENDS)]
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", PROGRAM, json.dumps(bodies), str(port), str(folder)]
    codes = json.loads(subprocess.run(words, env=shared, check=True, capture_output=True, text=True).stdout)
    said = [[folder / f"{k}-{number}" for number in range(2)] for k in range(len(bodies))]
    return [
        (pair, [json.loads(path.read_text()) if path.exists() else None for path in paths])
        for pair, paths in zip(codes, said, strict=True)
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_what_two_processes_agree_on(ends):
    codes, (first, second) = ends[0]
    assert codes == [0, 0] and first[0] == second[0] == "1 a [0, 1, 2]"
    assert float(first[1]) < float(second[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("number", range(len(ENDS)))
def test_an_end_is_heard_once(ends, number):
    _, codes, said = ENDS[number]
    assert ends[number + 1] == (list(codes), list(said))


def test_only_the_first_process_writes(monkeypatch):
    ranks.check_first_process()
    monkeypatch.setattr(ranks, "_joined", object())
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    assert "RANK=1 writes nothing" in message_of(ranks.check_first_process)


FORKED = """
import multiprocessing, os, torch
from clipedu.utils.ranks import joined

def work(number, port):
    os.environ.update(RANK=str(number), WORLD_SIZE="2", LOCAL_RANK=str(number), MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    with joined():
        x = torch.ones(500, 500, requires_grad=True)
        (x @ x).exp().sum().backward()
        print(torch.get_num_threads(), flush=True)

if __name__ == "__main__":
    import sys
    torch.set_num_threads(2)
    x = torch.ones(500, 500, requires_grad=True)
    (x @ x).exp().sum().backward()
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=work, args=(number, sys.argv[1])) for number in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    print(torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_processes_forked_after_torch_was_used_compute_in_one_thread(tmp_path):
    (tmp_path / "forked.py").write_text(FORKED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = run_python(tmp_path / "forked.py", port, timeout=100)
    assert sorted("".join(done.stdout.split())) == ["1", "1", "2"], done.stderr
