"""Presets: named experiments, and what to expect of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A named experiment: what differs from the defaults.

    Attributes:
        settings: fields of `Experiment`.
        description: one line for menus and `--help`.
        per_optimizer: what a grid changes for the cells of one optimizer: SGD's learning rate is not Adam's.
    """

    settings: dict[str, Any]
    description: str
    per_optimizer: dict[str, dict[str, Any]] = field(default_factory=dict)


# SGD needs a larger learning rate than Adam: 0.3 diverges for CLIP on scenes and on Flickr8k; at 0.03 VICReg, steep at its
# start, needs the clipping, which hardly changes the others.
_PER_OPTIMIZER = {"sgd": {"lr": 0.03, "clip_grad": 10.0}}

_FLICKR8K = {
    "data": "flickr8k",
    "image_size": 224,
    "text_length": 30,
    "image_encoder": "mobilenetv2_100",
    "image_weights": "pretrained",
    "image_frozen": True,
    "embedding_dim": 256,
    "temperature": 0.07,
    "epochs": 20,
}

PRESETS = {
    "tiny": Preset({"train_size": 4_000}, "embedded scenes at 32 px: seconds on two CPU cores", _PER_OPTIMIZER),
    "laptop": Preset({}, "embedded scenes at 32 px: half a minute on two CPU cores", _PER_OPTIMIZER),
    "flickr8k": Preset(
        {**_FLICKR8K, "text_options": {"dropout": 0.2}, "lr": 2e-3},
        "photographs: frozen MobileNetV2 features, a text encoder from scratch; a minute or two on two CPU cores",
        _PER_OPTIMIZER,
    ),
    "flickr8k-heads": Preset(
        {
            **_FLICKR8K,
            "text_encoder": "sentence-transformers/all-MiniLM-L6-v2",
            "text_weights": "pretrained",
            "text_frozen": True,
            "lr": 1e-3,
        },
        "photographs: two projections over frozen MobileNetV2 and MiniLM features; seconds once these are kept",
        _PER_OPTIMIZER,
    ),
    "course": Preset(
        {
            "data": "cc3m-100k",
            "eval_data": "coco-5k",
            "zeroshot_data": "imagenet-val",
            "image_size": 256,
            "text_length": 30,
            "clean_captions": True,
            "augment": "crop-flip-randaugment",
            "resize": "squash",
            "image_encoder": "resnet50",
            "image_weights": "pretrained",
            "pixel_stats": "clip",
            "text_encoder": "distilbert-base-uncased",
            "text_weights": "pretrained",
            "text_pooling": "cls",
            "embedding_dim": 256,
            "temperature": 0.01,
            "lr": 2e-4,
            "weight_decay": 0.02,
            "batch_size": 128,
            "epochs": 30,
            "warmup": 1 / 30,
            "norms_every": 100,
        },
        "the course's recipe: ResNet-50 + DistilBERT, 100k CC3M pairs, 30 epochs; hours on one GPU",
    ),
}
