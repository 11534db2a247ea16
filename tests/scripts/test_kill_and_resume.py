"""Runs that are killed at random moments end as runs that nothing happened to: a few points of the hundred."""

import sys

import pytest

from tests.helpers.processes import load_script

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks")


def test_a_few_points(monkeypatch, capsys):
    tool = load_script("kill_and_resume")
    monkeypatch.setattr("sys.argv", ["x", "--points", "3", "--seed", "3"])
    assert tool.main() == 0
    shown = capsys.readouterr().out
    assert "3 bit-identical, 0 not" in shown and shown.count(": the same") == 3


def test_what_differs_is_seen(tmp_path, monkeypatch):
    import torch

    tool = load_script("kill_and_resume")
    one = {"a": [torch.ones(2), {"b": 1}], "c": None}
    assert tool.same(one, {"a": [torch.ones(2), {"b": 1}], "c": None})
    for other in (
        {"a": [torch.ones(2), {"b": 2}], "c": None},
        {"a": [torch.ones(2).double(), {"b": 1}], "c": None},
        {},
    ):
        assert not tool.same(one, other)
    (tmp_path / "one.csv").write_text("step,loss,seconds\n0,1.0,0.1\n")
    (tmp_path / "two.csv").write_text("step,loss,seconds\n0,1.0,0.2\n")
    assert tool.rows(tmp_path / "one.csv") == tool.rows(tmp_path / "two.csv") == [["step", "loss"], ["0", "1.0"]]
    assert tool.rows(tmp_path / "none.csv") == []


def test_every_case_is_an_experiment(tmp_path):
    tool = load_script("kill_and_resume")
    from clipedu.training.objective import check_names

    for variant in tool.VARIANTS:
        for loss in tool.LOSSES:
            if tool.settings(variant, loss, "adamw"):
                check_names(tool.experiment_of((variant, loss, "adamw"), tmp_path))
