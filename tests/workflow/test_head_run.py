"""Runs of `fit_heads` that are run by themselves, and their names."""

import pytest

from clipedu.training.datasets import load_data
from clipedu.workflow.head_run import check_run_names, numbered, run_alone
from tests.helpers.errors import message_of


def test_a_run_by_itself(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = load_data(small)
    run = run_alone("one", small, None, data, "why not", progress=False)
    assert (run.status, run.why_alone, run.folder) == ("finished", "why not", None) and not any(tmp_path.iterdir())
    assert len(run.history) == 8 and len(run.layers) and len(run.norms) and "average" in run.metrics
    kept = run_alone("one", small, tmp_path / "kept", data, "why not", progress=False)
    assert kept.metrics == run.metrics and (kept.folder / "metrics.json").is_file()


def test_one_that_diverges(small, tmp_path):
    bad = small.replace(loss="vicreg", optimizer="sgd", lr=1e6, warmup=0.0)
    run = run_alone("bad", bad, tmp_path / "bad", load_data(bad), "why", progress=False)
    assert run.status == "failed" and run.model is None and "not finite" in run.note


def test_numbers_have_one_length():
    assert (
        numbered(3) == ["0", "1", "2"]
        and numbered(11)[:2] == ["00", "01"]
        and numbered(1) == ["0"]
        and numbered(0) == []
    )


@pytest.mark.parametrize("names", [[""], ["a/b"], [".."], ["a", "a:b"], ["A", "a"], [3]])
def test_names_that_folders_cannot_have(names):
    assert message_of(lambda: check_run_names(names))


def test_names_that_they_can():
    check_run_names(["lr=0.001, wd=0", "b", "ä"])
