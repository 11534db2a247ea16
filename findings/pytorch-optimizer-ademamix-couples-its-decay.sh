#!/usr/bin/env bash
# pytorch-optimizer 4.1.0: AdEMAMix takes weight_decay as L2 in the gradient by default.
#
# Expected: AdEMAMix (arXiv:2409.03137) is AdamW with a second, slower average: its algorithm box decays weights apart from the
#           gradient, and so do AdamW, Lion and AdamP of this package by default.
# Seen:     weight_decouple is False by default here. The decay goes through the division by the second moment: two runs with
#           and without decay, equal gradients, do not differ by a multiple of the weight. With weight_decouple=True they do.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 pytorch-optimizer==4.1.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from pytorch_optimizer import AdamW, AdEMAMix


def off_the_weight(build, **options) -> float:
    """How much of what decay changes in one step is not along the weight: 0 decoupled, near 1 coupled."""
    ends = []
    for decay in (0.5, 0.0):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(16, 16))
        start = weight.detach().clone()
        optimizer = build([weight], lr=0.1, weight_decay=decay, **options)
        weight.grad = torch.randn(16, 16)
        optimizer.step()
        ends.append(weight.detach())
    change = ends[1] - ends[0]
    along = (change * start).sum() / (start * start).sum() * start
    return ((change - along).norm() / change.norm()).item()


default, decoupled, adamw = off_the_weight(AdEMAMix), off_the_weight(AdEMAMix, weight_decouple=True), off_the_weight(AdamW)
print(f"share of the decay that is not along the weight: AdEMAMix {default:.2f}, decoupled {decoupled:.2f}, AdamW {adamw:.2f}")
assert default > 0.5 and decoupled < 1e-4 and adamw < 1e-4, "this has changed"
PYTHON
