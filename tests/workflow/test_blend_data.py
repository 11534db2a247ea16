"""What a blend is scored on, and the pictures for its statistics."""

import pytest

from clipedu.inference.batch_statistics import PICTURES
from clipedu.workflow.blend_data import scoring_settings, statistics_data
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
    one = opened(1)[0]
    data = statistics_data([one])
    assert (data.pairs.split, len(data.pairs), data.pictures, data.batch_size) == ("train", 16, PICTURES, 4)
    assert statistics_data([one], how="recompute", data=str(pairs_folder()), pictures=8).pictures == 8
    assert statistics_data([one], how="interpolate") is None


def test_options_without_effect_are_refused():
    one, frozen = opened(1)[0], opened(1, holdout=0.25, image_frozen=True)[0]
    assert statistics_data([frozen]) is None
    assert "--statistics recompute has no effect" in message_of(statistics_data, [frozen], how="recompute")
    said = message_of(statistics_data, [one], how="interpolate", pictures=8)
    assert "--statistics-pictures 8 has no effect with --statistics interpolate" in said


def test_a_model_that_is_no_run_has_no_training_pairs():
    one = opened(1)[0]
    said = message_of(statistics_data, [Opened("other", one.model, one.experiment)])
    assert "give --statistics-data NAME, or --statistics interpolate" in said
