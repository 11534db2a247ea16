"""The folder of a blend: its tables, its figure, and blended models as runs."""

import math
import shutil

import pandas as pd
import pytest
import torch

from clipedu import fit, load_run, start_from
from clipedu.models.interpolation import interpolate
from clipedu.training.datasets import evaluation_sets
from clipedu.workflow.blend_data import leading, open_all
from clipedu.workflow.blend_folder import blend_folder, check_runs, keep_mix, write_line, write_soup
from clipedu.workflow.blending import blend_line
from clipedu.workflow.opening import Opened, scale_of
from clipedu.workflow.soups import blend_soup
from tests.helpers.blends import opened
from tests.helpers.errors import message_of
from tests.helpers.released import save_transformers

pytestmark = pytest.mark.xdist_group("blends")
FROZEN = {"holdout": 0.25, "image_frozen": True}


def test_a_line_is_written_as_a_table_and_a_figure(tmp_path):
    a, b = opened(2, **FROZEN)
    line = blend_line(a, b, evaluation_sets(a.experiment), points=3)
    table, figure = write_line(line, tmp_path / "new")
    again = pd.read_csv(table)
    assert list(again) == ["t", "statistics", "metric", "value"] and len(again) == len(line.table)
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_soup_is_written_as_tables(tmp_path):
    models = opened(2, **FROZEN)
    held = evaluation_sets(models[0].experiment)
    assert [path.name for path in write_soup(blend_soup(models, "uniform", held), tmp_path)] == ["soup.csv"]
    paths = write_soup(blend_soup(models, "greedy", held, held_out=held[0]), tmp_path)
    assert [path.name for path in paths] == ["soup.csv", "held-out.csv"] and list(pd.read_csv(paths[1])) == [
        "model",
        "alone",
        "soup",
        "kept",
    ]


def test_a_kept_point_is_a_run_with_scores_and_a_report(tmp_path):
    a, b = opened(2, **FROZEN)
    sets = evaluation_sets(a.experiment)
    command = "clipedu blend A B --keep 0.25"
    shared = {"sets": sets, "settings": a.experiment, "statistics": None, "command": command}
    run = load_run(keep_mix([a, b], [0.75, 0.25], tmp_path / "t", **shared).folder)
    line = blend_line(a, b, sets, points=5)
    t, values = line.curve("average")
    assert run.metrics["average"] == values[list(t).index(0.25)]
    typed = interpolate(a.run.weights(), b.run.weights(), 0.25)
    assert all(torch.equal(tensor, typed[name]) for name, tensor in run.model().state_dict().items())
    page = (run.folder / "report.md").read_text()
    assert "This model was not trained: its weights are 0.75 of " in page and command in page.replace("\\", "")
    assert (
        "## Training" not in page and "## Scores" in page and "No figure here" not in page.partition("## Embeddings")[0]
    )


def test_folders_have_names_that_say_what_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(blend_folder(["runs/a", "x/b c"])) == "runs/blend-a-b_c"
    (tmp_path / "runs/blend-a-b").mkdir(parents=True)
    assert str(blend_folder(["runs/a", "runs/b"])) == "runs/blend-a-b-2"
    assert str(blend_folder(["a", "b", "c"])) == "runs/blend-a-and-2-more"
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    assert "not empty" in message_of(blend_folder, ["a", "b"], tmp_path / "full")


def test_a_model_that_is_no_run_cannot_be_kept_as_one():
    one = opened(1)[0]
    assert "neither is another of the models" in message_of(check_runs, [Opened("hub:x", one.model, one.experiment)])


def test_a_blend_of_a_released_model_and_a_run_of_it_is_kept(tmp_path):
    """With the logit scale between, and without what both came from."""
    save_transformers(tmp_path / "clip", "clip")
    quick = {"train_size": 20, "holdout": 0.25, "batch_size": 10, "epochs": 1, "lr": 1e-2, "image_size": 48}
    fit(start_from(tmp_path / "clip", **quick, lora_rank=2), tmp_path / "run", progress=False, report=False)
    models = open_all([str(tmp_path / "clip"), str(tmp_path / "run")])
    shared = {"sets": evaluation_sets(leading(models).experiment), "settings": leading(models).experiment}
    run = keep_mix(models, [0.5, 0.5], tmp_path / "t", **shared, statistics=None, command="clipedu blend A B")
    shutil.rmtree(tmp_path / "clip")
    shutil.rmtree(tmp_path / "run")
    state, both = load_run(run.folder).model().state_dict(), [one.model.state_dict() for one in models]
    assert all(torch.allclose(state[name], (both[0][name] + both[1][name]) / 2) for name in both[0])
    scales = [math.log(one.scale.logit_scale) for one in models]
    assert math.log(scale_of(run).logit_scale) == pytest.approx(sum(scales) / 2) and scales[0] != scales[1]


def test_a_model_that_is_built_otherwise_is_not_kept(tmp_path):
    run, other = opened(2, **FROZEN)
    other.model.image_size = 77
    said = message_of(check_runs, [Opened("hub:x", other.model, other.experiment), run])
    assert "hub:x is no run of clipedu, and" in said and "did not start from it" in said
