"""A blend as a run's folder: opened, scored and reported like any other, and not resumed."""

import json
from types import SimpleNamespace

import pytest
import torch

from clipedu import load_run, resume
from clipedu.models.interpolation import interpolate
from clipedu.runs.blend_recipe import Recipe
from clipedu.runs.blended import _learned, check_not_blended, write_blend
from clipedu.runs.intact import check_files
from clipedu.runs.trained_rows import shared_with_training
from clipedu.training.datasets import evaluation_sets, load_train
from tests.helpers.blends import small_runs
from tests.helpers.errors import message_of

pytestmark = pytest.mark.xdist_group("blends")
RECIPE = Recipe(["runs/a", "runs/b"], [0.75, 0.25], "interpolated", "clipedu blend runs/a runs/b --keep 0.25")


@pytest.fixture(scope="module")
def blend(tmp_path_factory):
    a, b = small_runs()
    model = a.model()
    model.load_state_dict(interpolate(a.weights(), b.weights(), 0.25))
    return write_blend(tmp_path_factory.mktemp("blend") / "run", model, [a, b], RECIPE, a.experiment)


def test_it_is_opened_like_any_run(blend):
    run, (a, b) = load_run(blend.folder), small_runs()
    assert run.status == "finished" and run.experiment == a.experiment and run.command == RECIPE.command
    assert run.blend() == {
        "models": ["runs/a", "runs/b"], "weights": [0.75, 0.25], "statistics": "interpolated", "command": RECIPE.command,
    }  # fmt: skip
    mixed, states = run.model().state_dict(), (a.weights(), b.weights())
    for name, tensor in mixed.items():
        x, y = (state[name] for state in states)
        typed = (0.75 * x.double() + 0.25 * y.double()).float() if x.is_floating_point() else x
        assert torch.equal(tensor, torch.where(x == y, x, typed)), name
    check_files(run)
    assert a.blend() is None


def test_what_is_trained_on_is_what_any_of_its_parts_was(blend):
    a, _ = small_runs()
    train, val = load_train(a.experiment), evaluation_sets(a.experiment)[0]
    assert shared_with_training(blend.folder, train).pairs == len(train) == 16
    assert shared_with_training(blend.folder, val).pairs == 0
    assert [entry["split"] for entry in blend.sets()] == ["train"]


def test_it_is_not_resumed(blend):
    said = message_of(resume, blend.folder, epochs=9)
    assert "is a blend of runs/a, runs/b: it was not trained" in said and f"clipedu evaluate {blend.folder}" in said
    check_not_blended(small_runs()[0])


def test_a_damaged_description_is_named(blend, tmp_path):
    (tmp_path / "blend.json").write_text(json.dumps({"models": ["a"]}))
    run = load_run(blend.folder)
    run.folder = tmp_path
    assert "blend.json" in (said := message_of(run.blend)) and "weights" in said


def test_a_learned_temperature_is_mixed_like_a_weight(tmp_path):
    from clipedu.workflow.opening import scale_of

    a, b = small_runs(learn_temperature=True, temperature=0.07)
    run = write_blend(tmp_path / "run", a.model(), [a, b], RECIPE, a.experiment)
    logs = [torch.tensor(scale_of(one).logit_scale).log() for one in (a, b, run)]
    assert logs[0] != logs[1] and logs[2].item() == pytest.approx((0.75 * logs[0] + 0.25 * logs[1]).item(), rel=1e-5)


def test_of_temperatures_a_sample_the_mean_is_kept():
    runs = [
        SimpleNamespace(training_state=lambda device, x=x: {"loss": {"tau": torch.full((2, 9), x), "u": torch.ones(9)}})
        for x in (0.1, 0.3)
    ]
    ((name, value),) = _learned(runs, [0.5, 0.5]).items()
    assert name == "tau" and value.item() == pytest.approx(0.2)
    assert _learned([SimpleNamespace(training_state=lambda device: {})], [1.0]) == {}  # of another form
