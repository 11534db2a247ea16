"""The study of attributes: when a curve passes, the order, a run that is read back at each checkpoint."""

import math

import pandas as pd
import pytest

from clipedu import ClipeduError, Experiment, fit
from clipedu.evaluation.attribute_fit import attribute_fit
from clipedu.inference.embed import embed_images
from clipedu.studies import attributes
from clipedu.studies.attributes import MEASURES, attribute_table, learned_at, order_table, order_text, write_study
from clipedu.utils.statistics import interval
from tests.conftest import few_to_score_on

pytestmark = pytest.mark.xdist_group("attributes studied")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    experiment = Experiment(
        train_size=64, batch_size=16, epochs=2, embedding_dim=8, keep_checkpoints=9, checkpoint_every=3,
        text_options={"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, "dropout": 0.0},
    )  # fmt: skip
    with few_to_score_on():
        return fit(experiment, tmp_path_factory.mktemp("attributes") / "a-seed0", progress=False, report=False)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(attributes, "SCENES", 60)


def test_a_curve_passes_on_the_straight_line_between_two_points():
    assert learned_at([10, 20, 30], [60, 70, 90]) == pytest.approx(22.5)
    assert learned_at([10, 20], [100, 100]) == pytest.approx(5)  # from chance at step 0
    assert learned_at([10], [75.0]) == 10 and math.isnan(learned_at([10, 20], [74, 50]))


def planted(ends):
    """Curves that rise on straight lines from chance to an end at step 100, by (attribute, seed)."""
    rows = [
        {"variant": "clip", "seed": seed, "step": step, "measure": measure, "attribute": name, "value": 50 + (end - 50) * step / 100}
        for (name, seed), end in ends.items()
        for step in (50, 100)
        for measure in MEASURES
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_the_order_is_that_of_the_steps_and_what_is_never_learned_comes_last():
    ends = {
        ("place", 0): 60,
        ("place", 1): 55,
        ("shape", 0): 80,
        ("shape", 1): 70,
        ("colour", 0): 100,
        ("colour", 1): 90,
    }
    table = order_table(planted(ends))
    assert list(table["attribute"]) == ["colour", "shape", "place"] and list(table["learned"]) == [2, 1, 0]
    first = table.iloc[0]
    assert (first["step"], first["step +-"]) == pytest.approx(interval([50.0, 62.5]))
    assert (first["foil"], first["foil +-"]) == pytest.approx(interval([100.0, 90.0]))
    text = order_text(table)
    assert "| clip | shape | 83 (1 of 2 seeds) |" in text and "| clip | place | never | 57.5 ± 31.8 |" in text


def test_a_run_is_measured_at_each_checkpoint(run, small):
    frame = attribute_table(run)
    assert sorted(set(frame["step"])) == [3, 4, 6, 8] and set(frame["measure"]) == set(MEASURES)
    from clipedu.data.scenes.dataset import Scenes

    scenes = Scenes("val", 60, 32)
    end = frame[(frame["step"] == 8) & (frame["measure"] == "image")].set_index("attribute")["value"]
    found = attribute_fit(embed_images(run.model(), scenes), scenes.attributes)
    assert end.to_dict() == pytest.approx({name: 100 * value for name, value in found.items()})
    foils = frame[(frame["step"] == 8) & (frame["measure"] == "foil")]
    assert {"binding", "relation", "shape"} <= set(foils["attribute"]) and foils["value"].between(0, 100).all()


def test_what_is_written_and_said(run, small, tmp_path):
    text = write_study([run], tmp_path)
    assert "| a | " in text and (tmp_path / "attributes.png").stat().st_size > 10_000
    assert "Which attribute is learned when?" in (tmp_path / "attributes.md").read_text()
    assert set(pd.read_csv(tmp_path / "attributes.csv")["measure"]) == set(MEASURES)
    with pytest.raises(ClipeduError, match=r"no run in .* is finished"):
        write_study([], tmp_path)


def test_photographs_have_no_known_attributes(run):
    other = type("Run", (), {"folder": "somewhere", "experiment": run.experiment.replace(data="flickr8k")})
    with pytest.raises(ClipeduError, match="somewhere was trained on 'flickr8k': only of scenes"):
        attribute_table(other)
