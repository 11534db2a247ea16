#!/usr/bin/env bash
# torch 2.14.1: AveragedModel(use_buffers=True) averages masks and integer buffers too.
#
# Expected: the average of a buffer that never changes is that buffer; torch's own docs give use_buffers=True for batch norm.
# Seen:     with the exponential average of torch (`get_ema_multi_avg_fn`) a causal mask, 0 and -inf, has nan at the second update
#           (lerp takes -inf minus -inf), and whole numbers are averaged and cut: 0 moves towards 10 as 1, 1, 1, and stays there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 numpy
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
        self.register_buffer("seen", torch.tensor(0))


model = Decoder()
average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
average.update_parameters(model)
average.update_parameters(model)
print("the mask, which never changed:", average.module.mask.tolist())
assert average.module.mask.isnan().any() and not model.mask.isnan().any(), "this has changed"
model.seen += 10
walk = []
for _ in range(3):
    average.update_parameters(model)
    walk.append(int(average.module.seen))
print("a count that went from 0 to 10, averaged:", walk)
assert walk == [1, 1, 1], "this has changed"
PYTHON
