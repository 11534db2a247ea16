"""Ratios of norms over seeds: factors multiply to the ratio, shares and intervals by hand, the largest factor is the cause."""

import math

import numpy as np
import pandas as pd
import pytest

from clipedu.studies.norm_ratios import causes_text, gate_table, gate_text, layer_table, ratio_table
from clipedu.utils.statistics import interval

LAYERS = ("a", "b", "c", "d")


def steady(settings, sizes, drift, normalised=(True, True, True, False)):
    columns = {"settings": settings, "sizes": sizes, "sizes, drift": drift}
    return pd.DataFrame(
        {"layer": LAYERS, "kind": ["matrix", "matrix", "table", "matrix"], "normalised": normalised, **columns}
    )


@pytest.fixture
def frame():
    return ratio_table(
        {
            "adamw-seed0": steady([1.01, 1.2, 0.7, 0.5], [1.0, 1.01, 0.7, 0.55], [1.0, 1.0, 0.69, 1.0]),
            "adamw-seed1": steady([1.02, 1.3, 1.04, 0.6], [1.0, 1.02, 1.0, 0.66], [1.0, 1.0, 1.0, 1.0]),
            "adamc-seed0": steady([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]),
        }
    )


def test_the_three_factors_multiply_to_the_ratio(frame):
    np.testing.assert_allclose(frame["size"] * frame["drift"] * frame["rest"], frame["ratio"], rtol=1e-12)
    row = frame[(frame["run"] == "adamw-seed0") & (frame["layer"] == "d")].iloc[0]
    assert (row["size"], row["drift"], row["rest"]) == pytest.approx((0.5 / 0.55, 0.55, 1.0))


def test_shares_within_the_band_over_seeds(frame):
    gates = gate_table(frame)
    assert list(gates["group"]) == ["normalised", "normalised", "other", "other"]
    first = gates.iloc[0]
    shares = interval([100 / 3, 200 / 3])  # a alone, then a and c
    assert (first["layers"], first["seeds"]) == (3, 2) and (first["share"], first["+-"]) == pytest.approx(shares)
    assert gates.iloc[1]["share"] == 100 and math.isnan(gates.iloc[1]["+-"])
    assert "| adamc | 3 normalised | 1 | 100 |" in gate_text(gates)


def test_the_cause_is_the_factor_farthest_from_one(frame):
    layers = layer_table(frame).set_index(["variant", "layer"]).loc["adamw"]
    assert list(layers["inside"]) == [True, False, False, False]
    assert layers.loc["b", "ratio"] == pytest.approx(math.sqrt(1.2 * 1.3)) and layers.loc["b", "low"] < 1.2
    assert list(layers.loc[["b", "c", "d"], "cause"]) == ["size", "rest", "drift"]
    text = causes_text(layer_table(frame))
    assert "| adamw | normalised | matrix | size | 1 of 2 | 1.25 |" in text and "adamc" not in text
    only = frame[frame["variant"] == "adamc"]
    assert causes_text(layer_table(only)) == "Every layer is within the band, in the mean over seeds."


def test_a_layer_is_normalised_if_it_is_in_most_seeds():
    one = [1.0] * 4
    tables = {f"x-seed{n}": steady(one, one, one, (True, n > 0, n > 1, False)) for n in range(3)}
    votes = ratio_table(tables).drop_duplicates("layer").set_index("layer")["normalised"]
    assert votes.to_dict() == {"a": True, "b": True, "c": False, "d": False}
