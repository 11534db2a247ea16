"""Small runs: whole, stopped and finished."""

import shutil

import pytest

from clipedu import Experiment, fit
from tests.helpers.shard_maker import make_shards
from tests.helpers.small_runs import QUIET, stop_at


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """An experiment of eight steps that takes a moment."""
    own = make_shards(tmp_path_factory.mktemp("data") / "own", 16)
    make_shards(own, 4, name="own", split="val", captions=2)
    return Experiment(
        data=str(own), batch_size=4, image_size=16, embedding_dim=8, text_length=12, device="cpu", norms_every=3,
        text_options={"dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32},
    )  # fmt: skip


@pytest.fixture(scope="session")
def whole(small, tmp_path_factory):
    """The run that nothing happened to."""
    return fit(small, tmp_path_factory.mktemp("whole") / "run", **QUIET)


@pytest.fixture(scope="session")
def stopped_once(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            fit(small, folder, **QUIET)
    return folder


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A run with checkpoints of steps 4 and 6, of 8."""
    return shutil.copytree(stopped_once, tmp_path / "stopped")


@pytest.fixture
def unreported(whole, tmp_path):
    """A finished run without a report."""
    return shutil.copytree(whole.folder, tmp_path / "finished")


@pytest.fixture(scope="module", autouse=True)
def scored_on_few(few_scenes):
    """All runs of this folder are scored on few scenes."""
