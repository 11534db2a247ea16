"""Sweeps over runs that take a part of a second, scored on small sets."""

import pytest

import clipedu
from clipedu import Experiment
from clipedu.data.scenes.sampling import SPLITS
from clipedu.studies.sweep.plan import make_plan

GRID = {"sampler": "grid", "pruner": "none", "holdout": 0.25, "progress": False}


@pytest.fixture(autouse=True)
def small_sets(monkeypatch):
    """Scored sets of 20 scenes."""
    monkeypatch.setitem(SPLITS, "val", 20)
    monkeypatch.setitem(SPLITS, "zeroshot", 20)


@pytest.fixture
def optuna():
    return pytest.importorskip("optuna", reason="sweeps need Optuna: pip install 'clipedu[sweep]'")


@pytest.fixture(scope="session")
def tiny():
    return Experiment(train_size=48, batch_size=16, epochs=1, embedding_dim=16)


@pytest.fixture
def plan(tiny):
    """Two values of lr, trained to the end."""
    return make_plan(tiny, {"lr": [1e-3, 1e-2]}, sampler="grid", pruner="none", holdout=0.25)


@pytest.fixture(scope="session")
def found(tiny, tmp_path_factory):
    """A grid of two learning rates, the better of which is trained on all pairs; for reading only."""
    pytest.importorskip("optuna")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SPLITS, "val", 20)
        patch.setitem(SPLITS, "zeroshot", 20)
        return clipedu.sweep(tiny, {"lr": [1e-3, 1e-2]}, tmp_path_factory.mktemp("sweeps") / "lr", seeds=[0, 1], **GRID)
