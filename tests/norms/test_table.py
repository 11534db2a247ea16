"""Rows from raw sums: each number from the two vectors that the sums were made of."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from clipedu.norms.layers import Layer
from clipedu.norms.table import COLUMNS, add_contributions, layer_table

LAYERS = [
    Layer("a.weight", "image", "matrix", nn.Parameter(torch.zeros(2, 3))),
    Layer("b.bias", "text", "1-D", nn.Parameter(torch.zeros(4))),
]
STEPS = [10, 20, 30]
SETTINGS = [np.array([[0.1 * step, 0.2], [0.5, 0.0], [0.4, 0.3]]) for step in (1, 2, 3)]


def steps() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """w, w' and shrink of three steps of two layers: [3, 2, 6] twice, [3, 2]."""
    noise = np.random.default_rng(0)
    w = noise.standard_normal((3, 2, 6))
    return w, w + 0.1 * noise.standard_normal((3, 2, 6)), noise.uniform(0, 0.1, (3, 2))


def sums_of(w, after, shrink, spectral: bool = False) -> np.ndarray:
    d = after - w
    rows = [(w * w).sum(-1), (w * d).sum(-1), (d * d).sum(-1), (after * after).sum(-1)]
    rows += [np.full((3, 2), 9.0), shrink, np.full((3, 2), 0.7), *([np.full((3, 2), 5.0)] if spectral else [])]
    return np.stack(rows, 1)


def table(*vectors, spectral: bool = False):
    groups = [["decayed", "not decayed"]] * 3
    laws = [["decoupled", "none"]] * 3
    return layer_table(LAYERS, STEPS, sums_of(*vectors, spectral=spectral), groups, laws, SETTINGS)


def test_each_number_from_its_vectors():
    w, after, shrink = steps()
    frame = table(w, after, shrink)
    assert tuple(frame.columns) == COLUMNS and len(frame) == 6
    for row, (t, k) in enumerate(np.ndindex(3, 2)):
        a, b, s = w[t, k], after[t, k], shrink[t, k]
        u = (1 - s) * a - b  # lr u
        got = frame.iloc[row]
        assert (got["step"], got["layer"], got["part"]) == (STEPS[t], LAYERS[k].name, LAYERS[k].part)
        assert got["size"] == LAYERS[k].parameter.numel() and got["group"] == ["decayed", "not decayed"][k]
        assert got["law"] == ["decoupled", "none"][k]
        expected = {
            "weight": np.linalg.norm(b),
            "gradient": 3.0,
            "update": np.linalg.norm(b - a),
            "cosine": a @ u / np.linalg.norm(a) / np.linalg.norm(u),
            "angle": math.acos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)),
            "relative_update": np.linalg.norm(u) / np.linalg.norm(a),
            "alignment": -2 * (1 - s) * (a @ u),
            "injection": u @ u,
            "decay": -s * (2 - s) * (a @ a),
            "shrink": s,
            "lr": SETTINGS[t][0, k],
            "weight_decay": SETTINGS[t][1, k],
            "effective_lr": SETTINGS[t][2, k],
            "Lambda": 0.7,
        }
        for name, value in expected.items():
            assert got[name] == pytest.approx(value, rel=1e-9), name
        assert got["alignment"] + got["injection"] + got["decay"] == pytest.approx(b @ b - a @ a)


def test_a_turn_too_small_for_an_arccos_keeps_its_digits():
    w, after, shrink = steps()
    w[0, 0], after[0, 0] = [1, 0, 0, 0, 0, 0], [1, 1e-10, 0, 0, 0, 0]
    assert table(w, after, shrink)["angle"][0] == pytest.approx(1e-10)


def test_a_weight_of_length_zero_has_no_direction():
    w, after, shrink = steps()
    w[0, 0] = after[0, 0] = 0
    row = table(w, after, shrink).iloc[0]
    assert row["cosine"] == row["relative_update"] == row["angle"] == row["decay"] == 0
    assert math.copysign(1, row["decay"]) == 1  # 0, not -0


def test_the_spectral_norm_comes_last():
    frame = table(*steps(), spectral=True)
    assert list(frame.columns) == [*COLUMNS, "spectral"] and set(frame["spectral"]) == {5.0}


def test_contributions_as_cosines():
    w, after, shrink = steps()
    frame, noise = table(w, after, shrink), np.random.default_rng(1)
    q, g = noise.standard_normal((2, 3, 2, 6))
    sums = [(q * q).sum(-1), (w * q).sum(-1), (w * g).sum(-1), (g * g).sum(-1), np.full((3, 2), 6.0)]
    add_contributions(frame, np.stack(sums, 1), (w * w).sum(-1))

    def cosine(x, y):
        return ((x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)).reshape(-1)

    assert frame["contribution"].to_numpy() == pytest.approx(np.linalg.norm(q, axis=-1).reshape(-1))
    assert frame["drift"].to_numpy() == pytest.approx(cosine(w, q))
    assert frame["radial"].to_numpy() == pytest.approx(cosine(w, g))
    assert set(frame["active"]) == {6.0}
