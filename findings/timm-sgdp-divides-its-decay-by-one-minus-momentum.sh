#!/usr/bin/env bash
# timm 1.0.31: SGDP takes weight_decay / (1 - momentum) from the weights, ten times what SGDW takes at momentum 0.9.
#
# Expected: a decoupled decay shrinks weights by lr x weight_decay a step, whatever the momentum, as in timm's SGDW and AdamP.
# Seen:     1 - lr x weight_decay / (1 - momentum): with lr 0.1 and decay 0.05 a weight without a gradient loses 0.005 a step at
#           momentum 0, 0.05 at momentum 0.9 and all of itself at momentum 0.995; SGDW loses 0.005 each time.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 timm==1.0.31
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from timm.optim import SGDP, SGDW


def lost(build, momentum: float) -> float:
    weight = torch.nn.Parameter(torch.ones(4, 4, dtype=torch.float64))
    optimizer = build([weight], lr=0.1, momentum=momentum, weight_decay=0.05)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    return 1 - weight[0, 0].item()


for momentum in (0.0, 0.9, 0.995):
    sgdp, sgdw = lost(lambda *a, **k: SGDP(*a, wd_ratio=1.0, **k), momentum), lost(SGDW, momentum)
    print(f"momentum {momentum}: share of a weight lost in one step: SGDP {sgdp:.4f}, SGDW {sgdw:.4f}")
    assert abs(sgdp - 0.005 / (1 - momentum)) < 1e-6 and abs(sgdw - 0.005) < 1e-6, "this has changed"
PYTHON
