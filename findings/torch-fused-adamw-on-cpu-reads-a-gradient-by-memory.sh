#!/usr/bin/env bash
# torch 2.14.1: on a CPU AdamW(fused=True) gives weights the updates of other weights where a gradient lies otherwise in memory.
#
# Expected: a gradient is a matrix, whatever its strides: fused=True makes the step of fused=False up to rounding, or refuses.
# Seen:     where the gradient of a contiguous weight is stored by columns (`g.T.contiguous().T`), the fused step takes its numbers in
#           the order of memory: each weight gets the update of another one, without a word. SGD, Adam and AdamW do it alike.
#           Autograd usually stores a gradient as its weight, so it shows where one is set by hand.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 numpy
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch.optim import SGD, Adam, AdamW

gradient = torch.arange(6.0).reshape(2, 3) - 2.5
by_columns = gradient.T.contiguous().T
assert torch.equal(gradient, by_columns)


def step(build, g: torch.Tensor, fused: bool) -> torch.Tensor:
    weight = torch.nn.Parameter(torch.zeros(2, 3))
    weight.grad = g.clone(memory_format=torch.preserve_format)
    assert weight.grad.stride() == g.stride()
    build([weight], lr=1.0, fused=fused).step()
    return weight.detach()


for build in (SGD, Adam, AdamW):
    right = step(build, gradient, False)
    assert torch.equal(step(build, by_columns, False), right), "this has changed"
    assert torch.allclose(step(build, gradient, True), right), "this has changed"
    wrong = step(build, by_columns, True)
    print(f"{build.__name__}: first row {right[0].tolist()}, fused with a gradient by columns {wrong[0].tolist()}")
    assert not torch.allclose(wrong, right), "this has changed"
PYTHON
