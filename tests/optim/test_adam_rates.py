"""The step of one piece is that of torch's Adam, to the last bit or up to the rounding of its fused kernel."""

import pytest
import torch

from clipedu.optim.adam_rates import AdamRates


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("fused", [None, True])
def test_three_steps(kind, decay, fused):
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(50))
    optimizer = kind([weight], lr=0.01, weight_decay=decay, betas=(0.8, 0.95), eps=1e-6, fused=fused, foreach=False)
    w, m, v, d = weight.detach().clone(), torch.zeros(50), torch.zeros(50), torch.empty(50)
    for count in range(1, 4):
        gradient = torch.randn(50)
        weight.grad = gradient.clone()
        optimizer.step()
        rates = AdamRates.of(optimizer.param_groups[0], torch.tensor(float(count)))
        rates.update(w, gradient.clone(), m, v, d)
    state = optimizer.state[weight]
    for mine, torchs in ((w, weight.detach()), (m, state["exp_avg"]), (v, state["exp_avg_sq"])):
        assert torch.equal(mine, torchs)


def test_rates_typed_out():
    group = {"lr": 0.1, "weight_decay": 0.5, "betas": (0.9, 0.99), "eps": 1e-8, "fused": None}
    coupled = AdamRates.of(group | {"decoupled_weight_decay": False}, torch.tensor(2.0))
    decoupled = AdamRates.of(group | {"decoupled_weight_decay": True}, torch.tensor(2.0))
    assert (coupled.coupled, coupled.kept, decoupled.coupled, decoupled.kept) == (0.5, 1.0, 0.0, 1 - 0.1 * 0.5)
    assert coupled.size == pytest.approx(0.1 / (1 - 0.9**2)) and coupled.root == pytest.approx((1 - 0.99**2) ** 0.5)
