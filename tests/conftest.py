"""What all tests share: one thread a process, a cache of their own, no network, and ears for Ctrl-C."""

import os
import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job is deaf to it, and so are its children
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; two workers with two threads each are slower
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """The user's own cache is neither read nor filled by the tests."""
    os.environ["CLIPEDU_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def quick():
    """An experiment that trains in about a second."""
    from clipedu import Experiment

    return Experiment(train_size=64, batch_size=16, epochs=2, image_size=32, embedding_dim=16)


@pytest.fixture(scope="session")
def finished(quick, tmp_path_factory):
    """A finished run with its report; for reading only."""
    from clipedu import fit

    return fit(quick, tmp_path_factory.mktemp("runs") / "finished", progress=False)
