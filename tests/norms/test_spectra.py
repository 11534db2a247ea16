"""Alpha by WeightWatcher: its numbers are passed on, and it changes nothing else."""

import logging
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from clipedu.norms import spectra
from clipedu.norms.spectra import power_law_exponents


class Watcher:
    """Stands in for weightwatcher.WeightWatcher, with its unkind ways with the root logger."""

    def __init__(self, model):
        logging.getLogger().addHandler(logging.StreamHandler())
        logging.getLogger().setLevel(logging.INFO)
        logging.getLogger().warning("resetting")
        self.model = model

    def analyze(self, min_evals, plot):
        if not list(self.model.children()):
            raise ValueError("nothing to analyse\nat all")
        return pd.DataFrame({"longname": ["a", "b.0"], "alpha": [2.5, np.float64(min_evals)]})


@pytest.fixture
def watcher(monkeypatch):
    module = types.ModuleType("weightwatcher")
    module.WeightWatcher = Watcher
    module.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "weightwatcher", module)


def test_alpha_by_the_name_of_the_parameter(watcher, capsys):
    handlers, level = list(logging.getLogger().handlers), logging.getLogger().level
    assert power_law_exponents(nn.Sequential(nn.Linear(2, 2))) == {"a.weight": 2.5, "b.0.weight": 50.0}
    assert logging.getLogger().handlers == handlers and logging.getLogger().level == level
    assert capsys.readouterr() == ("", "") and logging.root.manager.disable == 0


def test_a_model_that_it_cannot_read_has_no_alpha(watcher, caplog):
    assert power_law_exponents(nn.Identity()) is None
    assert "weightwatcher cannot read this model, so there is no alpha: nothing to analyse" in caplog.text


def test_without_the_package_there_is_none(monkeypatch):
    monkeypatch.setattr(spectra, "find_spec", lambda name: None)
    assert power_law_exponents(nn.Linear(64, 64)) is None


def test_the_package_itself():
    """A planted tail of the density lambda^-3: alpha is found again, by a power law's maximum likelihood."""
    pytest.importorskip("weightwatcher", reason="needs the extra inspect")
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(400, 400, generator=generator))[0] for _ in range(2))
    values = (1 - torch.rand(400, generator=generator)) ** (-1 / 2)  # eigenvalues of W^T W: P(> x) = x^-2
    model = nn.Sequential(nn.Linear(400, 400), nn.ReLU(), nn.Linear(8, 8))
    model[0].weight.data = left @ torch.diag(values.sqrt()) @ right
    found = power_law_exponents(model)
    assert set(found) == {"0.weight"}
    typed = 1 + 400 / torch.log(values / values.min()).sum().item()
    assert typed == pytest.approx(3, abs=0.15) and found["0.weight"] == pytest.approx(typed, abs=0.4)
