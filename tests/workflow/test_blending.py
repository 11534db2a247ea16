"""The line between two models: its ends are the models, and equal models make a constant line."""

import copy
import dataclasses
import shutil

import numpy as np
import pytest
import torch

from clipedu.evaluation.scoring import evaluate
from clipedu.inference.batch_statistics import StatisticsData, batch_norms
from clipedu.training.datasets import evaluation_sets, load_train
from clipedu.workflow.blending import Mixer, blend_line, check_alike
from clipedu.workflow.opening import open_model
from tests.helpers.blends import opened, small_runs
from tests.helpers.errors import message_of

pytestmark = pytest.mark.xdist_group("blends")


@pytest.fixture(scope="module")
def sets():
    return evaluation_sets(small_runs()[0].experiment)


@pytest.fixture(scope="module")
def statistics():
    return StatisticsData(load_train(small_runs()[0].experiment), batch_size=4)


@pytest.mark.parametrize("recomputed", [True, False])
def test_the_ends_score_what_the_models_score(recomputed, sets, statistics):
    a, b = opened()
    line = blend_line(a, b, sets, points=3, statistics=statistics if recomputed else None)
    own = [evaluate(one.run.model(), sets[0]) for one in (a, b)]
    for metric in ("tr@1", "ir@5", "alignment", "average"):
        assert line.ends(metric) == tuple(scores[metric] for scores in own), metric
    t, values = line.curve("average")
    assert t.tolist() == [0, 0.5, 1] and line.statistics == ("recomputed" if recomputed else "interpolated")
    if not recomputed:
        assert (values[0], values[-1]) == line.ends("average")
    assert all(torch.equal(tensor, a.run.weights()[name]) for name, tensor in a.model.state_dict().items())


def test_a_point_between_has_the_weights_that_are_typed_out(sets, statistics):
    a, b = opened()
    own = [{name: tensor.clone() for name, tensor in one.model.state_dict().items()} for one in (a, b)]
    model = Mixer([a, b], statistics).mix([0.75, 0.25])
    statistics_names = {
        f"{name}.{part}"
        for name in batch_norms(model)
        for part in ("running_mean", "running_var", "num_batches_tracked")
    }
    for name, tensor in model.state_dict().items():
        x, y = (state[name] for state in own)
        typed = (0.75 * x.double() + 0.25 * y.double()).float() if x.is_floating_point() else x
        if name not in statistics_names:
            assert torch.equal(tensor, torch.where(x == y, x, typed)), name
    typed = copy.deepcopy(model)
    for module in batch_norms(typed).values():
        module.reset_running_stats()
        module.momentum = None
        module.train()
    with torch.no_grad():
        for rows in statistics.batches():
            typed.image_features(statistics.pairs.pixels(rows))
    for name in statistics_names:
        assert torch.equal(model.state_dict()[name], typed.state_dict()[name]), name


def test_equal_models_make_a_constant_line(sets, statistics, tmp_path):
    a, _ = opened()
    twin = open_model(shutil.copytree(a.run.folder, tmp_path / "twin"))
    for kind in (statistics, None):
        line = blend_line(a, twin, sets, points=4, statistics=kind)
        for metric in ("tr@5", "alignment", "average"):
            values = line.curve(metric)[1]
            assert np.ptp(values) == 0, metric
        assert line.barrier().height == 0


def test_models_without_batch_norms_need_no_pictures(sets):
    a, b = opened(holdout=0.25, image_frozen=True)  # the batch norms there do not follow
    line = blend_line(a, b, sets, points=2)
    assert line.statistics == "none" and set(line.table["statistics"]) == {"none"}
    assert line.ends("average") == tuple(line.curve("average")[1])


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"geometry": "lorentz"}, "geometry is 'lorentz' there and 'cosine' here"),
        ({"image_size": 32}, "image_size is 32 there and 16 here"),
        ({"image_options": {"act": "gelu", "drop_rate": 0.1}}, "image_options are {'act': 'gelu'} there and {} here"),
    ],
)
def test_models_that_use_their_weights_in_another_way_are_refused(settings, what):
    a, b = opened()
    said = message_of(check_alike, [a, dataclasses.replace(b, experiment=b.experiment.replace(**settings))])
    assert said.startswith(f"{b.name} cannot be blended with {a.name}: {what}")


def test_options_of_the_training_alone_may_differ():
    a, b = opened()
    check_alike(
        [a, dataclasses.replace(b, experiment=b.experiment.replace(image_options={"drop_path_rate": 0.1}, lr=7))]
    )


def test_another_tokenizer_and_the_same_model_twice_are_refused():
    a, b = opened()
    assert "is given twice" in message_of(check_alike, [a, b, a])
    assert "at least two models; given: " in message_of(check_alike, [a])
    b.model.tokenizer = copy.copy(b.model.tokenizer)
    b.model.tokenizer.clean = True
    assert "their tokenizers differ" in message_of(check_alike, [a, b])


def test_tokenizers_of_other_libraries_are_compared_by_what_they_read():
    class Other:
        vocab_size, length = 50, 4

        def __init__(self, first):
            self.first = first

        def encode(self, texts):
            return np.full((len(texts), 4), self.first), np.full(len(texts), 4)

    a, b = opened()
    a.model.tokenizer, b.model.tokenizer = Other(1), Other(1)
    check_alike([a, b])
    b.model.tokenizer = Other(2)
    assert "their tokenizers differ" in message_of(check_alike, [a, b])


def test_a_score_that_is_not_there(sets):
    a, b = opened()
    line = blend_line(a, b, sets, points=2)
    assert "'top1' was not scored on this line" in message_of(line.curve, "top1")
    assert "points=1 must be at least 2" in message_of(blend_line, a, b, sets, points=1)
