"""The optimizers' lab, without a browser: what each control does, and the script that repeats the view."""

import functools
import html

import pytest
import torch

pytest.importorskip("ipywidgets", reason="widgets need: pip install ipywidgets")

from clipedu.optim import DECAY_LAWS
from clipedu.toys.landscapes import coupled_minimum, descend
from clipedu.widgets import optimizers as optimizer_lab
from clipedu.widgets.optimizers import MOST, SHOWN, OptimizerLab


@pytest.fixture
def sketched(monkeypatch):
    """Pictures are only what they are of: drawing one takes a third of a second."""

    def sketch(panels, pulled_to=None):
        return f"{[[name, p.points.tolist()] for paths in panels.values() for name, p in paths.items()]} {pulled_to}".encode()

    monkeypatch.setattr(optimizer_lab, "plot_descent", sketch)
    monkeypatch.setattr(optimizer_lab, "to_png", lambda figure: figure)


def test_it_opens_on_a_picture_and_a_table():
    lab = OptimizerLab()
    assert bytes(lab.picture.value).startswith(b"\x89PNG")
    assert list(lab.paths) == ["sgd", "adam", "adamw"]
    for name, path in lab.paths.items():
        right = descend(name, lr=0.1, weight_decay=0.1, schedule="cosine")
        assert torch.equal(path.points, right.points)
        assert f">{right.distance:.3f}<" in lab.table.value and f">{right.from_origin:.3f}<" in lab.table.value
    assert lab.table.value.count("coupled L2") == 2 and "never" in lab.table.value
    before = bytes(lab.picture.value)
    lab.scale.value = 0.02
    assert bytes(lab.picture.value) != before


def test_every_control_changes_the_walk(sketched):
    lab = OptimizerLab()
    lab.optimizers.value = ("adamw",)
    controls = {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.5, "law": "corrected", "scale": 10.0, "noise": 1.0,
                "schedule": "constant", "landscape": "bend"}  # fmt: skip
    for name, value in controls.items():
        before = lab.paths["adamw"].points
        getattr(lab, name).value = value
        if name == "scale":  # AdamW does not see it, but for epsilon
            torch.testing.assert_close(lab.paths["adamw"].points, before, rtol=1e-4, atol=1e-4)
        else:
            assert (lab.paths["adamw"].points - before).abs().max() > 1e-3, name


def test_the_law_goes_to_those_that_have_one(sketched):
    lab = OptimizerLab()
    lab.optimizers.value = ("sgd", "adamw", "scionc")
    before = {name: path.points for name, path in lab.paths.items()}
    lab.law.value = "independent"
    assert [torch.equal(lab.paths[name].points, before[name]) for name in before] == [True, False, True]
    for text in (">coupled L2<", ">independent<", ">corrected<"):
        assert text in lab.table.value


def test_the_square_is_shown_where_decay_is_coupled(sketched):
    lab = OptimizerLab()
    assert str(coupled_minimum(0.1, 1.0)) in bytes(lab.picture.value).decode()
    lab.optimizers.value = ("adamw", "lion")
    assert bytes(lab.picture.value).endswith(b"None")
    lab.optimizers.value = ("adamw", "sgd")
    lab.landscape.value = "bend"
    assert bytes(lab.picture.value).endswith(b"None")


@pytest.mark.parametrize("name", SHOWN)
def test_every_choice_works(sketched, name, monkeypatch):
    monkeypatch.setattr(optimizer_lab, "descend", functools.partial(descend, steps=20))
    lab = OptimizerLab()
    lab.optimizers.value = (name,)
    for law in DECAY_LAWS:
        lab.law.value = law
        for end, momentum in ((0, 0.0), (-1, 0.98)):
            lab.lr.value, lab.weight_decay.value = lab.lr.options[end][1], lab.weight_decay.options[end][1]
            lab.momentum.value = momentum
            assert list(lab.paths) == [name] and lab.status.value == ""


def test_a_walk_that_left_the_numbers_is_named(sketched):
    lab = OptimizerLab()
    lab.optimizers.value = ("sgd",)
    lab.lr.value, lab.scale.value = 1.0, 10.0
    assert "left the numbers" in lab.table.value and "never" in lab.table.value


def test_no_choice_and_too_many(sketched):
    lab = OptimizerLab()
    picture, paths = bytes(lab.picture.value), lab.paths
    lab.optimizers.value = ()
    assert "Choose an optimizer" in lab.status.value and lab.paths is paths and bytes(lab.picture.value) == picture
    lab.optimizers.value = SHOWN
    assert list(lab.paths) == list(SHOWN[:MOST]) and f"first {MOST}" in lab.status.value
    lab.optimizers.value = ("muon",)
    assert lab.status.value == ""


def test_script_repeats_the_view(sketched):
    lab = OptimizerLab()
    lab.optimizers.value = ("sgdw", "adam", "lion")
    lab.law.value, lab.noise.value, lab.momentum.value, lab.scale.value = "corrected", 2.0, 0.6, 0.02
    lab.landscape.value = "bend"
    names = {}
    exec(lab.script, names)
    assert list(names["paths"]) == list(lab.paths)
    assert all(torch.equal(names["paths"][name].points, path.points) for name, path in lab.paths.items())
    assert html.escape(lab.script) in lab.line.value
