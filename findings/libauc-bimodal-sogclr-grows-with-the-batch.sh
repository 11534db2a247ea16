#!/usr/bin/env bash
# libauc 2.0.1: the gradient of GCLoss("bimodal") is (B - 1) / 2 times that of the estimator in its paper.
#
# Expected: in the first step of a sample (u = g, gamma 1) SogCLR's gradient is that of tau * log mean_{j != i} exp((s_ij - s_ii) / tau),
#           averaged over the batch and added over the two sides (arXiv:2202.12387); its size does not grow with the batch.
# Seen:     the negatives are summed, not averaged, where the weights p are already exp / mean, and the two sides are halved. So the
#           direction is the same, the length (B - 1) / 2 times: 1.5, 3.5, 7.5, 15.5 for B = 4, 8, 16, 32. Under SGD that is another
#           learning rate for every batch size; under Adam with coupled L2 another weight decay.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 libauc==2.0.1 setuptools==80.9.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import contextlib
import io

import torch
from libauc.losses import GCLoss
from torch.nn.functional import normalize

TAU = 0.1


def paper(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    similarity = image @ text.T
    others = ~torch.eye(len(image), dtype=torch.bool)

    def side(table: torch.Tensor) -> torch.Tensor:
        terms = ((table - table.diagonal()[:, None]) / TAU).exp() * others
        return TAU * (terms.sum(1) / (len(table) - 1)).log().mean()

    return side(similarity) + side(similarity.T)


for size in (4, 8, 16, 32):
    torch.manual_seed(0)
    image, text = (normalize(torch.randn(size, 32), dim=1).requires_grad_() for _ in range(2))
    with contextlib.redirect_stdout(io.StringIO()):
        loss = GCLoss("bimodal", N=1000, tau=TAU, gamma=1.0, device="cpu")
    theirs = torch.autograd.grad(loss(image, text, torch.arange(size))[0], (image, text))
    ours = torch.autograd.grad(paper(image, text), (image, text))
    theirs, ours = (torch.cat([part.flatten() for part in side]) for side in (theirs, ours))
    ratio, cosine = (theirs.norm() / ours.norm()).item(), torch.cosine_similarity(theirs, ours, 0).item()
    print(f"B = {size:2}: {ratio:.3f} times the paper's gradient, cosine {cosine:.6f}")
    assert abs(ratio - (size - 1) / 2) < 1e-3 and cosine > 0.99999, "this has changed"
PYTHON
