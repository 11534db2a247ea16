"""The runner of comparisons: which runs there are, and that each is run once."""

import pytest

from clipedu.config.experiment import Experiment
from clipedu.studies.runner import COMPARISONS, comparison_cells, find_comparison, run_comparison
from clipedu.utils.errors import ClipeduError

SMALL = Experiment.preset("tiny", train_size=64, batch_size=32, epochs=1)


def test_an_unknown_comparison_or_variant_is_an_error():
    assert find_comparison("vit") is COMPARISONS["vit"]
    with pytest.raises(ClipeduError, match="unknown comparison 'geometry'. Did you mean 'geometries'"):
        comparison_cells("geometry", SMALL, (0,))
    with pytest.raises(ClipeduError, match="unknown variant of 'geometries' 'cosin'. Did you mean 'cosine'"):
        comparison_cells("geometries", SMALL, (0,), only=["cosin"])


def test_a_field_that_every_variant_sets_cannot_be_given():
    with pytest.raises(ClipeduError, match="geometry='cosine' cannot be given: 'geometries' compares by geometry"):
        comparison_cells("geometries", SMALL, (0,), given={"geometry", "lr"})


def test_what_is_given_has_precedence_over_preset_and_comparison():
    changes = {"sgd": {"lr": 0.5, "norms_every": 1}, "adamw": {"lr": 0.25}}

    def cell(given, **base):
        only = ["clip+sgd", "clip+adamw"]
        cells = comparison_cells("decay", SMALL.replace(**base), (0,), given=given, only=only, per_optimizer=changes)[0]
        return {name: (one.lr, one.norms_every) for name, one in cells.items()}

    assert cell(()) == {"clip+sgd-seed0": (0.5, 5), "clip+adamw-seed0": (0.25, 5)}
    both = {"lr": 0.125, "norms_every": 7}
    assert cell(both, **both) == {"clip+sgd-seed0": (0.125, 7), "clip+adamw-seed0": (0.125, 7)}


def test_base_that_does_not_fit_is_an_error_before_anything_runs():
    with pytest.raises(ClipeduError, match="vicreg"):
        comparison_cells("geometries", SMALL.replace(loss="vicreg"), [0])


def test_comparison_runs_every_variant_once(tmp_path):
    runs = list(run_comparison(comparison_cells("geometries", SMALL, [3]), tmp_path, progress=False))
    assert [run.status for run in runs] == ["finished"] * 5
    assert {run.experiment.seed for run in runs} == {3}
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.json")}
    assert len(stamps) == 5
    again = list(run_comparison(comparison_cells("geometries", SMALL, [3]), tmp_path, progress=False))
    assert [run.metrics for run in again] == [run.metrics for run in runs]
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_nothing_is_named_twice():
    with pytest.raises(ClipeduError, match="seeds: 0 is given twice, give each value once"):
        comparison_cells("geometries", Experiment(), (0, 1, 0))
    with pytest.raises(ClipeduError, match="variants: 'cosine' is given twice"):
        comparison_cells("geometries", Experiment(), (0,), only=["cosine", "lorentz", "cosine"])
