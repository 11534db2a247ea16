"""A model by its name, and its logit scale."""

import dataclasses
import math

import pytest

from clipedu import Experiment
from clipedu.workflow.opening import Scale, of_library, open_model, scale_of
from tests.helpers.blends import small_runs
from tests.helpers.errors import message_of

pytestmark = pytest.mark.xdist_group("blends")


def test_a_run_by_its_folder():
    run = small_runs()[0]
    one = open_model(run.folder)
    assert one.name == str(run.folder) and one.run.folder == run.folder and one.experiment == run.experiment
    assert not one.model.training and one.model.tokenizer is not None
    assert one.scale.logit_scale == pytest.approx(1 / 0.05) and not one.scale.learned and one.scale.bias is None


def test_a_model_of_another_library_says_what_it_is_itself():
    model = small_runs()[0].model()
    plain = of_library("other", model)
    assert plain.run is None and plain.scale is None and plain.experiment == Experiment()
    model.image_size, model.resize, model.logit_scale, model.logit_bias = 64, "squash", math.log(100), -10.0
    told = of_library("other", model)
    assert (told.experiment.image_size, told.experiment.resize) == (64, "squash")
    assert told.scale == Scale(pytest.approx(100), -10.0, learned=True)


def test_what_is_no_model(tmp_path):
    assert "does not exist" in message_of(open_model, tmp_path / "none")


@pytest.mark.parametrize(
    ("settings", "bias"),
    [({"learn_temperature": True, "temperature": 0.07}, None), ({"loss": "siglip"}, -10.0)],
)
def test_a_learned_scale_is_that_of_the_last_checkpoint(settings, bias):
    run = small_runs(2 if bias is None else 1, **settings)[0]
    scale = scale_of(run)
    assert scale.learned and (scale.bias is None if bias is None else scale.bias == pytest.approx(bias, abs=0.2))
    start = 0.07 if bias is None else 0.05
    assert 0 < abs(math.log(scale.logit_scale * start)) < 0.2  # four steps moved it a little


def test_a_loss_without_a_temperature_has_none():
    run = small_runs()[0]
    assert scale_of(dataclasses.replace(run, experiment=run.experiment.replace(loss="vicreg"))) is None
