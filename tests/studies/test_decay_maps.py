"""Maps of lr x decay: planted surfaces with a known answer."""

import math

import pytest

from clipedu.studies.decay_maps import best_settings, map_measures, measurements, surface
from clipedu.utils.errors import ClipeduError
from tests.helpers.decay_maps import planted, run_of


def test_planted_maps_are_told_apart():
    frame = measurements(planted())
    assert len(frame) == 300
    measures = map_measures(frame).groupby("optimizer")["tilt"].mean()
    assert abs(measures["adamw"]) < 0.02 and abs(measures["sgdw"]) < 0.02
    assert measures["adam"] < -0.6 and measures["sgd"] < -0.6
    best = best_settings(frame).loc["adamw"]
    assert (best["lr"], best["decay"]) == (3e-3, 1e-3) and best["weight_decay"] == pytest.approx(1 / 3, rel=1e-5)


def test_surface_is_the_mean_over_seeds_and_a_failed_run_scores_nothing():
    name = "adam+lr0.001+decay0.01"
    runs = [run_of(name, 0, 10.0), run_of(name, 1, math.nan), run_of("adam+lr0.003+decay0.01", 0, 4.0)]
    scores = surface(measurements(runs))
    assert scores.loc[0.01].tolist() == [5.0, 4.0]
    with pytest.raises(ClipeduError, match="there is no best setting"):
        measurements([run_of(name, 0, math.nan)])
