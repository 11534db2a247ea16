#!/usr/bin/env bash
# timm 1.0.31: AdamP made by name and the class AdamP decay scale-invariant weights at rates that differ by a factor of ten.
#
# Expected: create_optimizer_v2(parameters, "adamp", ...) gives what timm.optim.AdamP(parameters, ...) gives.
# Seen:     the registry binds wd_ratio=0.01, the class (and the paper, arXiv:2006.08217) has 0.1. For a weight whose gradient is
#           orthogonal to it, lr 0.1 and decay 0.5 shrink by 0.0005 a step by name, and by 0.005 by class.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 timm==1.0.31
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from timm.optim import AdamP, create_optimizer_v2

torch.manual_seed(0)
START, NOISE = torch.randn(64, 64), torch.randn(64, 64)
ORTHOGONAL = NOISE - (NOISE * START).sum(1, keepdim=True) / (START * START).sum(1, keepdim=True) * START


def shrink(build) -> float:
    ends = []
    for decay in (0.5, 0.0):
        weight = torch.nn.Parameter(START.clone())
        optimizer = build([weight], decay)
        weight.grad = ORTHOGONAL.clone()  # as that of a weight that a normalisation follows
        optimizer.step()
        ends.append(weight.detach())
    return ((ends[1] - ends[0]) * START).sum().item() / (START * START).sum().item()


by_name = shrink(lambda weights, decay: create_optimizer_v2(weights, "adamp", lr=0.1, weight_decay=decay))
by_class = shrink(lambda weights, decay: AdamP(weights, lr=0.1, weight_decay=decay))
print(f"share of a scale-invariant weight taken away in one step: by name {by_name:.5f}, by class {by_class:.5f}")
assert abs(by_name - 0.0005) < 1e-5 and abs(by_class - 0.005) < 1e-4, "this has changed"
PYTHON
