#!/usr/bin/env bash
# peft 0.21.2: LoRA on a parameter (target_parameters) changes the order of model.parameters() at the first forward pass.
#
# Expected: the order in which a model has its parameters is fixed once it is built. What walks two copies side by side relies on it:
#           torch.optim.swa_utils.AveragedModel, a moving average typed out with zip, an optimizer's state by number.
# Seen:     the adapted parameter goes behind its module's others with the first forward pass. A moving average that was made before it then
#           averages one weight with another: in silence where their shapes agree, as here, and with an error where they do not. (Adapters of
#           modules, target_modules, keep the order.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 peft==0.21.2
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.into = nn.Parameter(torch.full((4, 4), 1.0))
        self.out = nn.Parameter(torch.full((4, 4), 5.0))

    def forward(self, x):
        return x @ self.into @ self.out


def run(config):
    model = inject_adapter_in_model(config, nn.Sequential(Layer()))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    average.update_parameters(model)
    before = [name for name, _ in model.named_parameters()]
    model(torch.ones(1, 4))  # no weight is changed from here on
    after = [name for name, _ in model.named_parameters()]
    average.update_parameters(model)
    means = {name.rpartition(".")[2]: p.mean().item() for name, p in average.named_parameters() if "lora" not in name}
    return before, after, means


before, after, means = run(LoraConfig(r=1, target_parameters=["0.into"]))
print("before the first forward:", before)
print("after it:                ", after)
print("averages of weights that never changed (1 and 5):", means)
assert before != after and sorted(before) == sorted(after), "this has changed"
assert means == {"into": 3.0, "out": 3.0}, "this has changed"
PYTHON
