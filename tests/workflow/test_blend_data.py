"""What a blend is scored on, and the pictures for its statistics."""

import pytest

from clipedu import load_pairs
from clipedu.inference.batch_statistics import PICTURES
from clipedu.workflow.blend_data import first_pairs, scoring_settings, statistics_data
from clipedu.workflow.opening import Opened
from tests.helpers.blends import opened, pairs_folder
from tests.helpers.errors import message_of

pytestmark = pytest.mark.xdist_group("blends")


def test_the_sets_are_those_of_the_first_model_or_others():
    one = opened(1, holdout=0.25, image_frozen=True)[0]
    assert scoring_settings(one) == one.experiment
    assert scoring_settings(one, soup=True) == one.experiment.replace(holdout=None)
    other = scoring_settings(one, eval_data="scenes")
    assert (other.eval_data, other.holdout) == ("scenes", None)


def test_statistics_are_of_the_training_pairs():
    one, other = opened(2)
    data = statistics_data([one, other])
    assert (data.pairs.split, len(data.pairs), data.pictures, data.batch_size) == ("train", 16, PICTURES, 4)
    assert statistics_data([one, other], how="recompute", data=str(pairs_folder()), pictures=8).pictures == 8
    assert statistics_data([one, other], how="interpolate") is None


def test_options_without_effect_are_refused():
    a, b = opened()
    frozen = opened(2, holdout=0.25, image_frozen=True)
    assert statistics_data(frozen) is None and statistics_data([a, opened()[0]]) is None  # equal encoders need none
    said = message_of(statistics_data, frozen, how="recompute")
    assert "--statistics recompute has no effect: the models differ in no encoder with batch norms" in said
    said = message_of(statistics_data, [a, b], how="interpolate", pictures=8)
    assert "--statistics-pictures 8 has no effect with --statistics interpolate" in said


def test_a_model_that_is_no_run_has_no_training_pairs():
    a, b = opened()
    said = message_of(statistics_data, [Opened(name, one.model, one.experiment) for name, one in (("a", a), ("b", b))])
    assert "give --statistics-data NAME, or --statistics interpolate" in said


def test_the_first_pairs():
    pairs = load_pairs(pairs_folder(), "val", image_size=16)
    assert first_pairs(pairs, 6) is pairs and len(first_pairs(pairs, 2)) == 2
    assert first_pairs(pairs, 2).captions(1) == pairs.captions(1) and first_pairs(pairs, 2).split == "val"
