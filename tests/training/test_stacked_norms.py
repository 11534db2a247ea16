"""Norms of a stack are those that a monitor measures around each single run."""

import numpy as np
import pytest

from clipedu.training.datasets import load_training_data
from tests.helpers.stacks import side_by_side, variants


@pytest.fixture(scope="module")
def frozen(quick):
    return quick.replace(image_frozen=True, text_frozen=True, epochs=3, norms_every=3)


@pytest.mark.parametrize(
    ("loss", "optimizer", "bias"),
    [("clip", "adamw", True), ("siglip", "sgdc", False), ("sogclr", "adam", False), ("vicreg", "lion", True)],
)
def test_totals_rows_and_state(frozen, loss, optimizer, bias):
    frozen = frozen.replace(projection_bias=bias)
    both = side_by_side(variants(frozen, loss, optimizer), load_training_data(frozen))
    norms = both.stack.norms
    for run, (alone, records) in enumerate(zip(both.alone, both.records, strict=True)):
        for one, other in zip(records, both.stacked, strict=True):
            for place, part in enumerate(norms.parts):
                np.testing.assert_allclose(other.norms[run, :, place], list(one.norms[part].values()), rtol=1e-4)
        ours, theirs = alone.monitor.frame(), norms.frame(run, both.stack.steps)
        assert list(ours.columns) == list(theirs.columns) and list(theirs["step"].unique()) == [0, 3, 6, 9]
        for name in ours:
            if ours[name].dtype.kind in "fi":
                scale = max(
                    ours[name].abs().max(), 1e-3 if name in ("radial", "drift") else 0
                )  # without a bias they are 0
                np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-3, atol=1e-4 * scale, err_msg=name)
            else:
                assert list(ours[name]) == list(theirs[name])
        state = norms.state(run)["Lambda"]
        assert state == pytest.approx(alone.monitor.state()["Lambda"], rel=1e-6)


def test_rows_before_a_step(frozen):
    both = side_by_side([frozen, frozen.replace(lr=1e-4)], load_training_data(frozen))
    assert list(both.stack.norms.frame(1, 4)["step"].unique()) == [0, 3]
    assert len(both.stack.norms.frame(0, 0)) == 0
