"""Names and their errors, and the package's public names."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import clipedu
from clipedu.registry import ClipeduError, Registry, unknown_name


def colours() -> Registry:
    registry = Registry("colour")
    registry.add("red", lambda: 1, "like a tomato", paper="p", formula="f", defaults={"hue": 0})
    registry.add("green", lambda: 2, "like a frog")
    return registry


def test_an_entry_keeps_what_it_was_given():
    entry = colours()["red"]
    assert (entry.name, entry.build(), entry.description, entry.paper, entry.formula) == (
        "red",
        1,
        "like a tomato",
        "p",
        "f",
    )
    assert entry.defaults == {"hue": 0} and colours()["green"].defaults == {}
    assert list(colours()) == ["red", "green"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gren", "unknown colour 'gren'. Did you mean 'green'? Allowed: red, green"),
        ("GREEN", "unknown colour 'GREEN'. Did you mean 'green'? Allowed: red, green"),
        ("zzz", "unknown colour 'zzz'. Allowed: red, green"),
        (None, "unknown colour None. Allowed: red, green"),
        (3, "unknown colour 3. Allowed: red, green"),
        ("a\nb", "unknown colour 'a\\nb'. Allowed: red, green"),
    ],
)
def test_an_unknown_name_is_repeated_with_the_nearest_and_all_allowed(given, message):
    with pytest.raises(ClipeduError) as caught:
        colours()[given]
    assert str(caught.value) == message


def test_looking_does_not_raise():
    assert "gren" not in colours() and colours().get("gren") is None


def test_a_clipedu_error_is_one_line_whatever_it_repeats():
    assert str(ClipeduError("first\n   second\n\nthird")) == "first second  third"
    assert isinstance(ClipeduError("x"), ValueError)
    assert str(unknown_name("word", "x", [])).startswith("unknown word 'x'.")


@pytest.mark.parametrize("name", clipedu.__all__)
def test_every_public_name_resolves(name):
    assert getattr(clipedu, name) is getattr(importlib.import_module(f"clipedu.{clipedu._HOME[name]}"), name)


def test_dir_and_a_wrong_name():
    assert set(dir(clipedu)) >= {"Experiment", "fit", "train", "evaluate", "build_loss"}
    with pytest.raises(AttributeError, match="'clipedu' has no attribute 'Experment'.*Experiment"):
        clipedu.Experment  # noqa: B018


LIGHT = (
    "import clipedu, clipedu.registry, clipedu.experiment, clipedu.files; clipedu.Experiment(); clipedu.ClipeduError"
)
HEAVY = ("torch", "timm", "transformers", "matplotlib", "pandas", "sklearn", "ipywidgets", "numpy")


def modules_after(code: str) -> set[str]:
    root = str(Path(clipedu.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    return set(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split())


def test_the_low_rooms_import_nothing_heavy():
    loaded = modules_after(LIGHT)
    assert "clipedu.experiment" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_training_imports_no_notebook_and_no_plots():
    """A bare GPU server has no Jupyter; and timm and transformers are imported when a model is built, not before."""
    loaded = modules_after("import clipedu; clipedu.train; clipedu.fit; clipedu.evaluate; clipedu.build_model")
    assert "torch" in loaded
    assert loaded.isdisjoint({"matplotlib", "IPython", "ipywidgets", "sklearn", "timm", "transformers"})
