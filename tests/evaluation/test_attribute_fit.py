"""R² of attributes: targets by hand, planted embeddings with a known answer, and a regression typed out."""

import numpy as np
import pytest
import torch

from clipedu.data.scenes.captions import RELATIONS
from clipedu.data.scenes.dataset import Scenes
from clipedu.evaluation.attribute_fit import ATTRIBUTES, attribute_fit, attribute_targets
from clipedu.studies.probing import answers
from clipedu.utils.errors import ClipeduError


@pytest.fixture(scope="module")
def scenes():
    return Scenes("val", 600, 32)


def test_targets_are_what_the_scenes_show(scenes):
    a, targets = scenes.attributes, attribute_targets(scenes.attributes)
    assert tuple(targets) == ATTRIBUTES
    rows, shape = targets["shape"]
    for row in range(40):
        shown = {int(a.shape[row, slot]) for slot in range(int(a.count[row]))}
        assert set(shape[row].nonzero()[:, 0].tolist()) == shown and int(rows[row]) == row
    for name in ("place", "relation"):  # as the probes ask
        rows, target = targets[name]
        right = answers(scenes)[name]
        assert torch.equal(target.argmax(1), right[rows]) and len(rows) == (right >= 0).sum()


def test_what_is_planted_is_found_and_noise_is_not(scenes):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(len(scenes), 24, generator=generator)
    rows, colour = attribute_targets(scenes.attributes)["colour"]
    planted = noise.clone()
    planted[:, : colour.shape[1]] = 3 * colour.float() + 0.01 * noise[:, : colour.shape[1]]
    found = attribute_fit(planted, scenes.attributes)
    assert found["colour"] == pytest.approx(1, abs=0.01)
    assert all(abs(found[name]) < 0.05 for name in ("background", "place", "relation"))
    assert all(-0.1 < value < 0.02 for value in attribute_fit(noise, scenes.attributes).values())


def test_it_is_the_share_of_squares_explained_on_the_other_half(scenes):
    generator = torch.Generator().manual_seed(1)
    rows, target = attribute_targets(scenes.attributes)["relation"]
    x = torch.randn(len(scenes), 3, generator=generator, dtype=torch.float64)
    x[rows] += target[:, :3]
    kept, y = x[rows].numpy(), target.numpy()
    errors, total = [], []
    for fold in (0, 1):
        test = np.arange(len(kept)) % 2 == fold
        wide = np.c_[kept, np.ones(len(kept))]
        weights = np.linalg.lstsq(wide[~test], y[~test], rcond=None)[0]
        errors.append((wide[test] @ weights - y[test]) ** 2)
        total.append((y[test] - y[~test].mean(0)) ** 2)
    naive = 1 - np.concatenate(errors).sum() / np.concatenate(total).sum()
    assert attribute_fit(x, scenes.attributes)["relation"] == pytest.approx(naive, abs=0.01) and naive > 0.1
    assert target.shape[1] == len(RELATIONS)


def test_few_scenes_and_other_counts():
    few = Scenes("val", 24, 32)
    assert "shape" in attribute_fit(torch.randn(24, 4), few.attributes)
    assert "relation" not in attribute_fit(torch.randn(24, 4), few.attributes)
    with pytest.raises(ClipeduError, match="3 embeddings and 24 scenes"):
        attribute_fit(torch.randn(3, 4), few.attributes)
