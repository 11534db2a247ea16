#!/usr/bin/env bash
# torch-optimi 0.3.3: AdamW(decouple_lr=True) shrinks weights by weight_decay a step, 1 / lr times as much as torch's AdamW.
#
# Expected: decoupling the decay from the learning rate changes how it follows a schedule; at the peak rate a user who turns the
#           flag on keeps about the same regularisation, or is stopped by a check.
# Seen:     with lr 0.1 and weight_decay 0.5 a step takes 5 % of a weight without the flag and 50 % with it, in silence. The
#           share follows lr / max_lr, and max_lr is the lr given at construction, so weight_decay has to be divided by hand.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 torch-optimi==0.3.3 packaging==26.4  # which it imports and does not declare
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import optimi
import torch


def shrink(lr: float = 0.1, **options) -> float:
    """Share of a weight that one step without a gradient takes away; the second number is with half the rate set later."""
    weight = torch.nn.Parameter(torch.ones(4, 4))
    optimizer = optimi.AdamW([weight], lr=0.1, weight_decay=0.5, **options)
    optimizer.param_groups[0]["lr"] = lr
    weight.grad = torch.zeros(4, 4)
    optimizer.step()
    return 1 - weight.mean().item()


plain, decoupled, later = shrink(), shrink(decouple_lr=True), shrink(0.05, decouple_lr=True)
print(f"one step at lr 0.1, decay 0.5: {plain:.3f} of the weight, with decouple_lr {decoupled:.3f}; at lr 0.05: {later:.3f}")
assert abs(plain - 0.05) < 1e-6 and abs(decoupled - 0.5) < 1e-6 and abs(later - 0.25) < 1e-6, "this has changed"
PYTHON
