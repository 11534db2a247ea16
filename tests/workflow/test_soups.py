"""Soups: means as typed out, a greedy choice by pairs held out, and never by the scored set."""

import pytest
import torch

from clipedu import load_pairs
from clipedu.evaluation.scoring import evaluate
from clipedu.training.datasets import evaluation_sets
from clipedu.workflow import soups
from clipedu.workflow.blend_data import scoring_settings
from clipedu.workflow.blending import Mixer
from clipedu.workflow.soups import blend_soup, held_out_part
from tests.helpers.blends import opened, pairs_folder, small_runs
from tests.helpers.errors import message_of
from tests.helpers.shard_maker import photo, sample, write_tar

pytestmark = pytest.mark.xdist_group("blends")
HELD = {"holdout": 0.25, "image_frozen": True}


@pytest.fixture(scope="module")
def scored():
    return evaluation_sets(scoring_settings(opened(1, **HELD)[0], soup=True))


def test_a_uniform_soup_is_the_mean(scored):
    models = opened(3, **HELD)
    soup = blend_soup(models, "uniform", scored)
    assert soup.weights == (1 / 3,) * 3 and soup.held_out is None
    typed = models[0].run.model()
    states = [one.run.weights() for one in models]
    typed.load_state_dict(
        {
            name: torch.where(x == states[1][name], x, sum((1 / 3) * one[name].double() for one in states).float())
            if x.is_floating_point()
            else x
            for name, x in states[0].items()
        }
    )
    assert soup.scores["alignment"] == pytest.approx(evaluate(typed, scored[0])["alignment"], rel=1e-6)
    own = soup.table[soup.table["model"] == models[1].name].set_index("metric")["value"]
    assert own["alignment"] == evaluate(models[1].run.model(), scored[0])["alignment"]
    for one in models:  # they stay as they are
        assert all(torch.equal(tensor, one.run.weights()[name]) for name, tensor in one.model.state_dict().items())


def test_a_greedy_soup_keeps_what_does_not_lower_the_score(scored, monkeypatch):
    """By a score that is typed in: of the models alone, and of each mean that is tried."""
    models = opened(3, **HELD)
    held = held_out_part(models, scored)
    scores = {(1, 0, 0): 30.0, (0, 1, 0): 50.0, (0, 0, 1): 40.0, (0, 0.5, 0.5): 45.0, (0.5, 0.5, 0): 50.0}
    mixed = []
    own = Mixer.mix

    def mix(self, weights, **options):
        mixed.append(tuple(weights))
        return own(self, weights, **options)

    monkeypatch.setattr(Mixer, "mix", mix)
    monkeypatch.setattr(
        soups, "scores_on", lambda model, sets: {"average": scores.get(mixed[-1], 1.0)} if sets == [held] else {}
    )
    soup = blend_soup(models, "greedy", scored, held_out=held)
    assert soup.held_out.to_dict("list") == {
        "model": [models[1].name, models[2].name, models[0].name],
        "alone": [50.0, 40.0, 30.0],
        "soup": [50.0, 45.0, 50.0],
        "kept": [True, False, True],
    }
    assert soup.weights == (0.5, 0.5, 0.0)


def test_a_greedy_soup_is_at_least_as_good_there_as_each_model_alone(scored):
    models = opened(3, **HELD)
    soup = blend_soup(models, "greedy", scored, held_out=held_out_part(models, scored))
    kept = soup.held_out[soup.held_out["kept"]]
    assert kept["soup"].is_monotonic_increasing and kept["soup"].iloc[-1] >= soup.held_out["alone"].max()
    assert sum(soup.weights) == pytest.approx(1) and soup.table["model"].nunique() == 4


def test_what_is_held_out_is_what_the_runs_kept_from_training(scored):
    models = opened(2, **HELD)
    part = held_out_part(models, scored)
    assert part.split == "held-out" and len(part) == 4 and scored[0].split == "val"


def test_without_pairs_held_out_it_is_refused_with_the_way_out(scored):
    models = opened(2)
    said = message_of(held_out_part, models, scored)
    assert "was trained without any" in said and "--holdout 0.1" in said and "--choose-data NAME" in said
    assert "held out" in message_of(blend_soup, models, "greedy", scored)
    assert "Did you mean 'greedy'" in message_of(blend_soup, models, "gredy", scored)


def test_pairs_that_were_trained_on_or_are_scored_are_refused(scored, tmp_path):
    models = opened(2, **HELD)
    said = message_of(held_out_part, models, scored, str(pairs_folder()))
    assert "own/val shares pictures with own/val, which is scored" in said and "--choose-data" in said
    trained = small_runs(1)[0]  # on all pairs: those that others hold out, too
    other = [models[0], opened(1)[0]]
    assert f"{trained.folder} was trained on 4 of the 4 pictures of own/held-out" in message_of(
        held_out_part, other, scored
    )


def test_other_pairs_can_be_named(scored, tmp_path):
    files = [file for k in range(5) for file in sample(f"x{k}", photo(200 + k), [f"picture {k}"])]
    folder = write_tar(tmp_path / "more" / "more-val-0.tar", files).parent
    assert len(held_out_part(opened(2), scored, str(folder))) == len(load_pairs(folder, "val", image_size=16)) == 5
