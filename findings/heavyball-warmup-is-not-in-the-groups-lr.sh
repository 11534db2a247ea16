#!/usr/bin/env bash
# heavyball 3.2.1: warmup_steps scales step and weight decay, and param_groups do not show it.
#
# Expected: an optimizer that warms its learning rate up either leaves that to a scheduler, or writes the rate in use into
#           param_groups[i]["lr"], where schedulers, loggers and norm monitors read it. In its first of 10 warm-up steps,
#           lr 0.1 and decay 0.5 would shrink a weight by 0.1 * 0.5 / 10 = 0.0050 (or by 0, where warm-up starts at 0).
# Seen:     param_groups say lr = 0.1 throughout. The weight shrinks by 0.1 * 0.5 * k / 11 in step k: 0.0045, 0.0091, 0.0136,
#           so the ramp reaches 1 only after 11 steps. What computes decay as lr * weight_decay is off by up to a factor of 11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 heavyball==3.2.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import heavyball
import torch

weight = torch.nn.Parameter(torch.ones(4, 4))
optimizer = heavyball.AdamW([weight], lr=0.1, weight_decay=0.5, warmup_steps=10)
shrinks, rates = [], []
for _ in range(12):
    before = weight.detach().clone()
    weight.grad = torch.zeros(4, 4)  # so that decay is all that moves it
    optimizer.step()
    shrinks.append(1 - (weight.detach() / before).mean().item())
    rates.append(optimizer.param_groups[0]["lr"])
print("share of the weight taken away in steps 1 to 12:", [f"{shrink:.4f}" for shrink in shrinks])
print("lr in param_groups:", sorted(set(rates)))
expected = [0.05 * min(step / 11, 1) for step in range(1, 13)]
assert all(abs(a - b) < 1e-5 for a, b in zip(shrinks, expected, strict=True)), "the ramp has changed"
assert set(rates) == {0.1}, "param_groups show the warm-up now"
PYTHON
