"""What all tests share: one thread a process, a cache of their own, no network, and Ctrl-C enabled."""

import logging
import os
import signal
from contextlib import contextmanager

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job ignores it, and so do its children
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; two workers with two threads each are slower
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

from clipedu.utils.garbage import collect_seldom

collect_seldom()  # as the command line does: a search goes through all objects of torch and of the tests before


def pytest_make_parametrize_id(val, argname):
    """A long value is named by its length: workers must agree on the name, and a pickle is never the same twice."""
    return f"{argname} of {len(val)}" if isinstance(val, (str, bytes)) and len(val) > 200 else None


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """The user's own cache is neither read nor filled by the tests."""
    os.environ["CLIPEDU_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The data folder of one test, which is not there yet, and an empty folder for the hub's client."""
    monkeypatch.setenv("CLIPEDU_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path / "home"


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """The repositories of a hub on loopback: small shards of birds; for reading only."""
    from tests.helpers.fetching import make_repository

    root = tmp_path_factory.mktemp("hub")
    make_repository(root)
    return root


@pytest.fixture
def birds(tmp_path):
    """A manifest of these shards."""
    from tests.helpers.fetching import write_birds

    return write_birds(tmp_path / "birds.toml")


@pytest.fixture(scope="session")
def quick():
    """An experiment that trains in about a second."""
    from clipedu import Experiment

    return Experiment(train_size=64, batch_size=16, epochs=2, image_size=32, embedding_dim=16)


@contextmanager
def few_to_score_on():
    """Drawn sets to score on have 40 images, where a thousand would only take time."""
    from clipedu.data.scenes.sampling import SPLITS

    with pytest.MonkeyPatch.context() as patch:
        for split in ("val", "zeroshot"):
            patch.setitem(SPLITS, split, 40)
        yield


@pytest.fixture(scope="module")
def few_scenes():
    with few_to_score_on():
        yield


@pytest.fixture(scope="session")
def finished(quick, tmp_path_factory):
    """A finished run with its report; for reading only."""
    from clipedu import fit

    with few_to_score_on():
        return fit(quick, tmp_path_factory.mktemp("runs") / "finished", progress=False)


@pytest.fixture(autouse=True)
def logger_as_ever():
    """The library's log lines reach each test, whatever the one before has set."""
    logger = logging.getLogger("clipedu")
    logger.disabled, logger.propagate = False, True
    logger.setLevel(logging.NOTSET)
