#!/usr/bin/env bash
# timm 1.0.31: create_optimizer_v2(model, "muon") orthogonalises embedding tables, patch embeddings and heads.
#
# Expected: Muon (Jordan et al. 2024) is for hidden matrices; embeddings and the head are left to AdamW, as its text says. timm has a
#           fallback optimizer for what Muon does not take.
# Seen:     every tensor with two or more axes goes to Muon by default. The table of an nn.Embedding, of whose 1,000 tokens 64 were
#           seen, moves by a matrix whose singular values agree to a factor of 1.5; those of its gradient spread over more than 100.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 timm==1.0.31
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from timm.optim import create_optimizer_v2

torch.manual_seed(0)
model = torch.nn.ModuleDict({"embedding": torch.nn.Embedding(1000, 64), "head": torch.nn.Linear(64, 100, bias=False)})
optimizer = create_optimizer_v2(model, "muon", lr=1.0, weight_decay=0.0)
before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
seen = torch.arange(64)
model["embedding"].weight.grad = torch.zeros(1000, 64)
model["embedding"].weight.grad[seen] = torch.randn(64, 64)  # 64 of 1,000 tokens were in the batch
model["head"].weight.grad = torch.randn(100, 64)
optimizer.step()
spread = {}
for name, weight in model.named_parameters():
    values = torch.linalg.svdvals(before[name] - weight.detach())
    spread[name] = (values[0] / values[-1]).item()
gradient = torch.linalg.svdvals(model["embedding"].weight.grad[seen])
print("largest / smallest singular value of the step:", {name: f"{ratio:.2f}" for name, ratio in spread.items()})
print(f"of the gradient of the table: {(gradient[0] / gradient[-1]).item():.0f}")
assert all(ratio < 3 for ratio in spread.values()), "tables or heads are no longer orthogonalised"
PYTHON
