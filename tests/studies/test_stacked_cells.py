"""Cells over frozen encoders: trained at once, and each once."""

import pytest

from clipedu.config.experiment import Experiment
from clipedu.runs.checkpoint import checkpoints
from clipedu.studies.runner import comparison_cells, run_comparison
from clipedu.studies.stacked_cells import fit_stacks

FROZEN = Experiment.preset(
    "tiny", train_size=96, batch_size=24, epochs=1, image_frozen=True, text_frozen=True, embedding_dim=8
)
GIVEN = {"train_size", "batch_size", "epochs"}
ONLY = ["adam+lr0.003+decay0.01", "adamw+lr0.003+decay0.01", "sgd+lr0.03+decay0.01", "sgdw+lr0.03+decay0.01"]


@pytest.fixture(scope="module")
def cells():
    return comparison_cells("decoupling", FROZEN, [0], given=GIVEN, only=ONLY)


@pytest.mark.xdist_group("stacked-cells")
def test_stacks_give_the_runs_of_single_cells_and_are_trained_once(cells, tmp_path, monkeypatch):
    single = list(run_comparison(cells, tmp_path / "single", progress=False))
    stacked = list(run_comparison(cells, tmp_path / "stacked", progress=False, stacked=True))
    assert [run.name for run in stacked] == [f"{name}-seed0" for name in ONLY]
    for one, other in zip(stacked, single, strict=True):
        assert one.status == "finished"
        assert one.history["loss"].tolist() == pytest.approx(other.history["loss"].tolist(), rel=1e-4)
    assert fit_stacks(cells[0], tmp_path / "stacked", progress=False) == []
    monkeypatch.setattr("clipedu.workflow.heads.fit_stack", None)  # nothing is trained again
    for _ in range(2):  # with the weights, and without
        assert len(checkpoints(stacked[0].folder)) in (0, 1)
        again = run_comparison(cells, tmp_path / "stacked", progress=False, stacked=True, keep_weights=False)
        assert [run.metrics for run in again] == [run.metrics for run in stacked]
        assert not any(checkpoints(run.folder) for run in stacked)


@pytest.mark.xdist_group("stacked-cells")
def test_cells_that_cannot_be_stacked_are_left(cells, tmp_path):
    trained = {"a": FROZEN.replace(image_frozen=False), "b": FROZEN.replace(optimizer="scion")}
    assert fit_stacks(trained, tmp_path, progress=False) == [] and not list(tmp_path.iterdir())
