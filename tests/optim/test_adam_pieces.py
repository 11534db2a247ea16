"""Pieces: every number is in one row, and what is measured is what the naive sums give."""

import pytest
import torch

from clipedu.optim.adam_pieces import ALIGN, Large, Packed, Piece, flat
from clipedu.optim.adam_rates import AdamRates

GROUP = {
    "lr": 0.1,
    "weight_decay": 0.1,
    "betas": (0.9, 0.99),
    "eps": 1e-8,
    "fused": None,
    "decoupled_weight_decay": True,
}


def rates():
    return AdamRates.of(GROUP, torch.tensor(1.0))


def state(parameter):
    return {"exp_avg": torch.zeros_like(parameter), "exp_avg_sq": torch.zeros_like(parameter)}


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_a_piece_measures_rows(size):
    torch.manual_seed(0)
    w, before, g = torch.randn(size), None, torch.randn(size)
    before = w.clone()
    count = -(-size // 64)
    rows = torch.full((3, count + 2), -1.0)
    piece = Piece(0, (w, torch.zeros(size), torch.zeros(size)), 64, 1, torch.empty(2, size), used=True)
    assert piece.rows == (1, 1 + count)
    piece.step(rates(), g, rows)
    for out, values in zip(rows, (g, w, w - before), strict=True):
        expected = [part.norm() for part in values.split(64)]
        torch.testing.assert_close(out[1 : 1 + count], torch.stack(expected))
        assert out[0] == out[-1] == -1


def test_a_piece_without_any_gradient_so_far_only_shrinks():
    w, m, v = torch.ones(10), torch.zeros(10), torch.zeros(10)
    piece = Piece(0, (w, m, v), 64, 0, torch.empty(2, 10), used=False)
    piece.step(rates(), torch.zeros(10), None)
    assert torch.equal(w, torch.full((10,), 1 - 0.1 * 0.1)) and not piece.used and not m.any()
    piece.step(rates(), torch.ones(10), None)
    assert piece.used and m.all()


def test_packed_tensors_are_copied_back_and_their_averages_are_parts_of_one_array():
    torch.manual_seed(0)
    parameters = [torch.randn(3, 5), torch.randn(70), torch.randn(4, 6).t()]
    states = [state(p) for p in parameters]
    gradients = [torch.randn_like(p) for p in parameters]
    alone = [p.clone(memory_format=torch.preserve_format) for p in parameters]
    pack = Packed(0, parameters, states, 0, torch.empty(2, 4 * ALIGN))
    assert pack.starts.tolist() == [0, 1, 3]
    pack.run(rates(), gradients, None)
    for p, single, gradient, kept in zip(parameters, alone, gradients, states, strict=True):
        m, v = torch.zeros(p.numel()), torch.zeros(p.numel())
        rates().update(flat(single), flat(gradient), m, v, torch.empty(p.numel()))
        assert torch.equal(p, single) and torch.equal(flat(kept["exp_avg"]), m)


def test_a_large_tensor_is_cut_into_blocks_whatever_its_strides():
    torch.manual_seed(0)
    parameter = torch.randn(30, 20).t()
    alone = parameter.clone(memory_format=torch.preserve_format)
    gradient = torch.randn(20, 30)  # stored otherwise
    large = Large(0, parameter, state(parameter), 0, torch.empty(2, 128), fresh=True)
    assert len(large.pieces) == 5 and large.pieces[-1].rows[1] >= 5
    large.run(rates(), gradient, None)
    m, v = torch.zeros(600), torch.zeros(600)
    rates().update(flat(alone), gradient.t().reshape(-1), m, v, torch.empty(600))
    assert torch.equal(parameter, alone)
