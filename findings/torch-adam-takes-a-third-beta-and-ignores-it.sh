#!/usr/bin/env bash
# torch 2.14.1: Adam and AdamW take three betas, as Adan and AdEMAMix have them, and use two without a word.
#
# Expected: betas=(0.9, 0.999, 0.5) is refused, as by NAdam, RAdam and Adamax (too many values to unpack).
# Seen:     Adam and AdamW accept it, check neither its range nor its type, and make the very steps of (0.9, 0.999).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 numpy
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch.optim import Adam, Adamax, AdamW, NAdam, RAdam


def walk(build, betas: tuple) -> torch.Tensor:
    weight = torch.nn.Parameter(torch.ones(8))
    optimizer = build([weight], lr=0.1, betas=betas)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        weight.grad = torch.randn(8, generator=generator)
        optimizer.step()
    return weight.detach()


for build in (Adam, AdamW):
    for third in (0.5, 99.0, "none"):
        assert torch.equal(walk(build, (0.9, 0.999, third)), walk(build, (0.9, 0.999))), "this has changed"
    print(f"{build.__name__}: a third beta of 0.5, 99 or 'none' changes nothing")
for build in (NAdam, RAdam, Adamax):
    try:
        walk(build, (0.9, 0.999, 0.5))
    except ValueError as error:
        print(f"{build.__name__}: {error}")
    else:
        raise SystemExit("this has changed")
PYTHON
