"""What probes and calibration need of a run: its temperature, and tables in its folder."""

import math
import shutil

import pandas
import pytest
import torch

from clipedu import load_run
from clipedu.config.experiment import Experiment
from clipedu.evaluation.calibration import calibrate
from clipedu.geometry import build_geometry
from clipedu.runs.checkpoint import STATE
from clipedu.training.objective import build_objective
from clipedu.utils.errors import ClipeduError
from clipedu.workflow.probing import keep_reliability, keep_table, temperature_of


class Stub:
    """A run with a training state and nothing else."""

    def __init__(self, folder, experiment, state):
        self.folder, self.experiment = folder, experiment
        torch.save(state, folder / STATE)

    def checkpoint(self, which="last"):
        return self.folder

    def geometry(self):
        return build_geometry(self.experiment.geometry, self.experiment.embedding_dim)


def run_of(folder, change=lambda loss: None, **settings):
    experiment = Experiment(**settings)
    geometry = build_geometry(experiment.geometry, experiment.embedding_dim)
    loss = build_objective(experiment, geometry, num_samples=4)
    with torch.no_grad():
        change(loss)
    return Stub(folder, experiment, {"loss": loss.state_dict()})


def set_scale(loss):
    (scale,) = [parameter for name, parameter in loss.named_parameters() if name.endswith("logit_scale")]
    scale.fill_(math.log(40))


@pytest.mark.parametrize(
    ("settings", "change", "temperature"),
    [
        ({}, None, 0.05),
        ({"temperature": 0.2}, None, 0.2),
        ({"geometry": "euclidean-squared"}, None, None),
        ({"learn_temperature": True}, set_scale, 1 / 40),
        ({"loss": "siglip"}, set_scale, 1 / 40),
        ({"learn_temperature": True, "geometry": "lorentz", "entailment": 0.1}, set_scale, 1 / 40),
        ({"learn_temperature": True}, lambda loss: loss.logit_scale.fill_(9.0), 0.01),  # as its loss would clamp it
        ({"loss": "isogclr", "temperature": 0.02}, lambda loss: loss.tau.add_(torch.tensor([[0.01], [0.03]])), 0.04),
        ({"loss": "vicreg"}, None, 0.05),
        ({"loss": "sogclr", "temperature": 0.03}, None, 0.03),
    ],
)
def test_the_temperature_is_that_of_the_loss(settings, change, temperature, tmp_path):
    run = run_of(tmp_path, change or (lambda loss: None), **settings)
    if temperature is None:
        temperature = build_geometry(settings["geometry"], 8).temperature
    assert temperature_of(run) == pytest.approx(temperature)


def test_of_a_trained_run_it_is_that_of_the_checkpoint(finished):
    assert temperature_of(finished) == 0.05
    assert temperature_of(load_run(finished.folder), "last") == 0.05


def test_what_is_kept_of_a_blend_is_enough(tmp_path):
    stub = Stub(
        tmp_path, Experiment(learn_temperature=True), {"step": 3, "loss": {"logit_scale": torch.tensor(math.log(20))}}
    )
    assert temperature_of(stub) == pytest.approx(0.05)


@pytest.mark.parametrize("learned", [{"logit_scale": "x"}, {"logit_scale": torch.zeros(3)}, {"tau": 1.5}])
def test_a_temperature_that_is_no_number(learned, tmp_path):
    with pytest.raises(ClipeduError, match="the temperature of its loss is no number"):
        temperature_of(Stub(tmp_path, Experiment(), {"loss": learned}))


def test_a_training_state_that_cannot_be_read(finished, tmp_path):
    run = load_run(shutil.copytree(finished.folder, tmp_path / "copy"))
    (run.checkpoint() / STATE).write_bytes(b"no state")
    with pytest.raises(ClipeduError, match=r"state\.pt cannot be read"):
        temperature_of(run)


def test_tables_and_the_diagram_are_kept(tmp_path):
    table = pandas.DataFrame({"probe": ["knn"], "top1": [12.5]})
    path = keep_table(tmp_path, "probes", table)
    assert path == tmp_path / "probes.csv" and pandas.read_csv(path).equals(table)
    logits = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    picture = keep_reliability(tmp_path, calibrate(logits, torch.arange(40) % 3, 1.0))
    assert picture == tmp_path / "plots" / "reliability.png" and picture.read_bytes().startswith(b"\x89PNG")
