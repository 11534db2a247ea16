#!/usr/bin/env bash
# torchmetrics 1.9.0: calibration error with n_bins=15 has a sixteenth bin, for confidences of exactly 1.
#
# Expected: 15 bins of equal width, the last of which is closed: [14/15, 1], as the definition of the expected calibration error has it.
# Seen:     a confidence of exactly 1, which a softmax in float32 gives as soon as one logit leads by 17, is in a bin of its own. Errors of
#           opposite sign that cancel within the last bin are added up instead: 0.525 in place of 0.475 for two predictions.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 torchmetrics==1.9.0 numpy
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

logits = torch.tensor([[20.0, 0.0], [2.9444, 0.0]])
probabilities = logits.softmax(1)
target = torch.tensor([1, 0])  # the certain one is wrong
confidence, right = probabilities.max(1)[0], probabilities.argmax(1) == target
print("confidences", [round(x, 4) for x in confidence.tolist()], "right", right.tolist())
assert confidence[0] == 1 and 14 / 15 < confidence[1] < 1
in_one_bin = (confidence.mean() - right.float().mean()).abs().item()
found = multiclass_calibration_error(probabilities, target, num_classes=2, n_bins=15, norm="l1").item()
print(f"both in the last of 15 bins: {in_one_bin:.3f}; torchmetrics: {found:.3f}")
assert abs(in_one_bin - 0.475) < 1e-3 and abs(found - 0.525) < 1e-3, "this has changed"
PYTHON
