"""Threads that load transformers at the same moment."""

import threading

from clipedu.utils.importing import importing
from tests.helpers.processes import run_python

THREADS = """
import threading
from clipedu import Experiment
from clipedu.data.tokenizer import train_tokenizer
from clipedu.models import build_model

def work():
    try:
        barrier.wait()
        tokenizer = train_tokenizer(["a red circle", "a blue square"] * 4, 16)
        build_model(Experiment(embedding_dim=8), tokenizer.vocab_size, special_tokens=tokenizer.special_tokens)
    except Exception as error:
        failed.append(error)

barrier, failed = threading.Barrier(4), []
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failed, failed
"""


def test_four_threads_build_their_models_at_once():
    """In a fresh process, where nothing is imported yet."""
    done = run_python("-c", THREADS)
    assert done.returncode == 0, done.stderr


def test_one_thread_at_a_time_and_nested_in_one_thread():
    seen: list[str] = []

    @importing()
    def inner(name: str) -> None:
        seen.append(name)

    with importing():
        other = threading.Thread(target=inner, args=("other",))
        other.start()
        other.join(0.2)
        inner("own")
    other.join()
    assert seen == ["own", "other"]
