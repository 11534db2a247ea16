"""The comparison of geometries: what varies, and what all variants share."""

from types import SimpleNamespace

from clipedu.config.experiment import Experiment
from clipedu.studies.comparison import variant
from clipedu.studies.geometries import COMPARISON
from clipedu.studies.runner import comparison_cells

SMALL = Experiment.preset("tiny", train_size=64, batch_size=32, epochs=1)


def test_geometries_differ_in_geometry_and_entailment_alone():
    cells = comparison_cells("geometries", SMALL, (0, 7))
    assert list(cells) == [0, 7]
    assert [variant(SimpleNamespace(name=name)) for name in cells[7]] == list(COMPARISON.variants)
    varied = {"geometry", "entailment", "entailment_options", "temperature"}
    first = cells[7]["cosine-seed7"]
    assert first.learn_temperature and first.seed == 7
    for experiment in cells[7].values():
        same = {name: getattr(first, name) for name in varied}
        assert experiment.replace(**same) == first
    assert {ex.geometry for ex in cells[0].values()} == {"cosine", "euclidean-squared", "lorentz"}
    assert sorted(ex.entailment > 0 for ex in cells[0].values()) == [False, False, False, True, True]
