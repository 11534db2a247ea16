"""A model by its name, and its logit scale."""

import dataclasses
import math
import shutil

import pandas
import pytest
import torch

from clipedu import Experiment, adopt
from clipedu.cli.parser import main
from clipedu.workflow.opening import Scale, of_library, open_model, scale_of
from tests.helpers.blends import small_runs
from tests.helpers.errors import message_of
from tests.helpers.released import SIZE, save_open_clip

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
    assert "does not exist. Allowed: a run's folder, open_clip:NAME" in message_of(open_model, tmp_path / "none")


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


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A folder of open_clip."""
    pytest.importorskip("open_clip")
    save_open_clip(folder := tmp_path_factory.mktemp("released") / "vit", "vit")
    return folder


def test_a_released_model_by_its_folder(released):
    one, model = open_model(released), adopt(released)
    assert one.run is None and one.experiment.image_size == SIZE and one.scale.learned
    assert one.scale.logit_scale == pytest.approx(math.exp(float(model.logit_scale)))
    ours, theirs = one.model.state_dict(), model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    other = open_model(released, "random").model.state_dict()
    assert any(not torch.equal(other[name], theirs[name]) for name in theirs)


def test_weights_are_of_released_models_alone(tmp_path):
    folder = small_runs(1)[0].folder
    assert "weights='random' has no effect" in message_of(open_model, folder, "random")
    assert "Did you mean 'ViT-B-32'" in message_of(open_model, "open_clip:ViT-B-23")
    assert "Did you mean 'open_clip:ViT-B-32'? Allowed: a run's folder, " in message_of(open_model, "ViT-B-32")
    assert "names no model" in message_of(open_model, "hf:")


def test_both_commands_take_a_released_model(released, few_scenes, tmp_path, capsys):
    words = ["--lr", "5e-4", "--weight-decay", "0.2"]
    assert main(["inspect", str(released), *words, "--folder", str(tmp_path / "page")]) == 0
    assert "logit scale" in capsys.readouterr().out and (tmp_path / "page" / "inspect.html").is_file()
    other = shutil.copytree(released, tmp_path / "other")
    line = ["blend", str(released), str(other), "--points", "3", "--folder", str(tmp_path / "blend")]
    assert main(line) == 0, capsys.readouterr()
    table = pandas.read_csv(tmp_path / "blend" / "blend.csv")
    of_average = table[table["metric"] == "average"]["value"]
    assert len(of_average) >= 3 and of_average.nunique() == 1  # the same weights at both ends
