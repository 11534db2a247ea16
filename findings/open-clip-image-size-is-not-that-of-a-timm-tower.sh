#!/usr/bin/env bash
# open_clip_torch 3.3.0: image_size of a configuration is that of the transform, not of a timm ViT tower.
#
# Expected: vision_cfg.image_size is the size of the image tower, as it is of open_clip's own ViT, whose position embedding has it.
# Seen:     with vision_cfg.timm_model_name a ViT is built at the size in timm's own registry (224), while the transform that comes with it
#           makes pictures of image_size (64): the first picture is an error. Only the argument force_image_size reaches the tower, so a
#           configuration alone cannot say the size of a model that was trained at another one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.14.1 torchvision==0.29.1 open_clip_torch==3.3.0 timm==1.0.31
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - "$folder" <<'PYTHON'
import json
import logging
import sys
from pathlib import Path

import open_clip
from PIL import Image

logging.disable(logging.WARNING)
SIZE, configs = 64, Path(sys.argv[1]) / "configs"
configs.mkdir()
TEXT = {"context_length": 8, "vocab_size": 100, "width": 16, "heads": 2, "layers": 1}
TOWERS = {
    "own": {"image_size": SIZE, "layers": 1, "width": 64, "patch_size": 16, "head_width": 32},
    "timm": {"image_size": SIZE, "timm_model_name": "vit_tiny_patch16_224", "timm_pool": "token", "timm_proj": "linear"},
}
for name, tower in TOWERS.items():
    (configs / f"{name}.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": tower, "text_cfg": TEXT}))
open_clip.add_model_config(configs)


def try_one(name, **options):
    model, _, transform = open_clip.create_model_and_transforms(name, **options)
    pixels = transform(Image.new("RGB", (80, 80)))[None]
    try:
        outcome = f"an embedding of {tuple(model.encode_image(pixels).shape)}"
    except AssertionError as error:
        outcome = f"AssertionError: {error}"
    print(f"{name} {options or ''}: a picture of {tuple(pixels.shape[2:])} gives {outcome}")
    return outcome


assert try_one("own").startswith("an embedding"), "this has changed"
assert try_one("timm") == "AssertionError: Input height (64) doesn't match model (224).", "this has changed"
assert try_one("timm", force_image_size=SIZE).startswith("an embedding"), "this has changed"
PYTHON
