"""The public names of `clipedu`, and what importing it loads."""

import importlib

import pytest

import clipedu
from tests.helpers.processes import modules_after


@pytest.mark.parametrize("name", clipedu.__all__)
def test_every_public_name_resolves(name):
    assert getattr(clipedu, name) is getattr(importlib.import_module(f"clipedu.{clipedu._HOMES[name]}"), name)


def test_dir_and_a_wrong_name():
    assert set(dir(clipedu)) >= {"Experiment", "fit", "train", "evaluate", "build_loss"}
    with pytest.raises(AttributeError, match="'clipedu' has no attribute 'Experment'.*Experiment"):
        clipedu.Experment  # noqa: B018


LIGHT = "import clipedu, clipedu.utils.registry, clipedu.config.experiment, clipedu.utils.files; clipedu.Experiment(); clipedu.ClipeduError"
HEAVY = ("torch", "timm", "transformers", "matplotlib", "pandas", "sklearn", "ipywidgets", "numpy")


def test_the_low_layers_import_nothing_heavy():
    loaded = modules_after(LIGHT)
    assert "clipedu.config.experiment" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_training_imports_no_notebook_and_no_plots():
    """A bare GPU server has no Jupyter; and timm and transformers are imported when a model is built, not before."""
    loaded = modules_after("import clipedu; clipedu.train; clipedu.fit; clipedu.evaluate; clipedu.build_model")
    assert "torch" in loaded
    assert loaded.isdisjoint({"matplotlib", "IPython", "ipywidgets", "sklearn", "timm", "transformers"})
