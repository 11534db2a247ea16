"""`Experiment`: one frozen dataclass that describes a whole run.

Everything a run depends on is a field here, so two runs with equal experiments on one machine give the same numbers, and one
small JSON file in its folder is enough to repeat a run. An experiment is checked when it is made: a wrong value is a one-line
`ClipeduError` that names the field, what was given and what is allowed.

    Experiment(loss="sogclr", lr=1e-3)              # the laptop preset with two changes
    Experiment.preset("course", data="my-shards")   # the course's recipe on your own data

This module does not import torch: names of losses and optimizers are checked against their registries when a run is prepared.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from clipedu.config.field_checks import checked_field
from clipedu.config.fields import names, options, setting
from clipedu.config.json_form import FORMAT, as_before, read_settings, write_settings
from clipedu.config.presets import PRESETS
from clipedu.config.together import RELEASED, check_together
from clipedu.utils.errors import unknown_name

__all__ = [
    "FOIL_KINDS",
    "FORMAT",
    "HOW",
    "OF_START",
    "RELEASED",
    "ROUNDS",
    "TRACKERS",
    "Experiment",
    "as_before",
    "checked_setting",
]

TRACKERS = ("tensorboard", "trackio", "wandb")  # `clipedu.trackers` opens them
FOIL_KINDS = ("shape", "colour", "size", "background", "place", "relation", "binding")  # of clipedu.data.scenes.foils
OF_START = (
    *("image_size", "text_length", "clean_captions", "image_encoder", "image_weights", "image_options", "pixel_stats"),
    *("text_encoder", "text_weights", "text_options", "text_pooling", "embedding_dim", "projection_bias"),
    *("final_norm",),
    *("geometry", "geometry_options"),
)
"""Settings that say what a model is: one that a run starts from fixes them."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One training run.

    Descriptions of the fields are in their metadata; `clipedu train --help` prints them all.

    Raises:
        ClipeduError: an unknown field, or a value that is not allowed.
    """

    # the data
    data: str = setting("scenes", "training pairs: scenes, a folder of .tar shards, or a name under $CLIPEDU_DATA")
    train_size: int | None = setting(
        None, "use the first N training pairs; none = all of them (16,000 scenes)", at_least=2
    )
    data_seed: int = setting(
        0, "which scenes are drawn, to train and to score on; the same for all seeds", at_least=0, at_most=2**63 - 1
    )
    holdout: float | None = setting(
        None,
        "hold out this share of the training pairs (0.1) and score on it alone, in place of the sets below: for choosing settings",
        above=0,
        below=1,
    )
    eval_data: str | None = setting(None, "retrieval set (its val split); none = that of the training data")
    zeroshot_data: str | None = setting(
        None, "labelled images for zero-shot; none = those of the training data, if any"
    )
    class_names: str = setting(
        "clipedu",
        "of ImageNet in zero-shot: clipedu's, or open_clip's, as published numbers have them",
        choices=("clipedu", "open_clip"),
    )
    templates: str = setting(
        "clipedu",
        "prompts of zero-shot: clipedu = the set's own (7 for photographs), open_clip = the 80 of published numbers",
        choices=("clipedu", "open_clip"),
    )
    image_size: int = setting(32, "height and width of the images, pixels", at_least=8, at_most=1024)
    resize: str = setting("crop", "how photographs become square", choices=("crop", "squash"))
    text_length: int = setting(24, "longest caption in tokens, [CLS] and [SEP] included", at_least=3, at_most=65_536)
    clean_captions: bool | str = setting(
        False,
        "true: lower case, no punctuation, first 30 words, as the course does; web: HTML and wrong encodings mended, as "
        "open_clip does; false: none",
        also=("web",),
    )
    augment: str = setting(
        "none",
        "on the device: random resized crop (area 0.5-1), flip, the course's RandAugment",
        choices=("none", "crop", "crop-flip", "crop-flip-randaugment"),
    )
    # the model
    image_encoder: str = setting("test_resnet", "any timm model, or a name that `clipedu list encoders` shows")
    image_weights: str = setting("random", "random, pretrained (from the hub), or a file of weights")
    image_frozen: bool = setting(False, "train only the projection on top; features are computed once and kept")
    image_options: dict[str, Any] = options(
        "further arguments of timm.create_model, e.g. pad_type=same",
        taken=("name", "weights", "image_size", "model_name", "pretrained", "num_classes"),
    )
    pixel_stats: str = setting(
        "auto",
        "mean and std of pixels; auto = those the image encoder was made with",
        choices=("auto", "imagenet", "inception", "clip"),
    )
    text_encoder: str = setting("distilbert-nano", "any transformers text model, or a name that `clipedu list` shows")
    text_weights: str = setting("random", "random, pretrained (from the hub), or a file of weights")
    text_frozen: bool = setting(False, "train only the projection on top; features are computed once and kept")
    text_options: dict[str, Any] = options(
        "changes to the text model's config, e.g. dropout=0.2",
        taken=("name", "weights", "vocab_size", "special_tokens"),
    )
    text_pooling: str = setting(
        "auto",
        "cls: hidden state of the first token; last: of the last one; mean: over all; auto: mean, or last where the encoder "
        "reads from left to right",
        choices=("auto", "cls", "last", "mean"),
    )
    embedding_dim: int = setting(128, "width of the shared embedding", at_least=2)
    projection_bias: bool = setting(
        False,
        "a bias in the projections; false: none, with CLIP's start (std width^-1/2); true: torch's own linear layer",
    )
    final_norm: bool = setting(
        True,
        "false: encoders without their last LayerNorm, so that lengths of embeddings are free, as in EuCLIP; both must have one",
    )
    # where it starts
    start: str | None = setting(
        None,
        "a model to fine-tune: a run's folder, open_clip:NAME, hf:OWNER/NAME, or a folder or file of a released model; what it "
        "fixes is taken from it; none = from scratch",
        option="from",
    )
    start_weights: str | None = setting(
        None,
        "weights of that model: a pretrained tag of open_clip, a file, or random; none = its own",
        option="from-weights",
    )
    lock: list[str] = names(
        "what is not trained, by name: image_encoder.visual.conv1 text_encoder image_projection; batch_norms = all of them, with "
        "their statistics; none = nothing"
    )
    lora_rank: int | None = setting(
        None,
        "train low-rank adapters of this rank in the encoders, in place of their weights; none = the weights",
        at_least=1,
    )
    lora_options: dict[str, Any] = options(
        "further arguments of peft.LoraConfig, e.g. lora_alpha=16 (default 2 x rank), lora_dropout=0.1",
        taken=("r", "inference_mode", "task_type", "modules_to_save", "bias"),
    )
    # the objective
    loss: str = setting("clip", "name of the loss: `clipedu list losses`")
    temperature: float | None = setting(
        None, "softmax temperature of the loss; none = where the geometry starts (cosine 0.05)", above=0
    )
    learn_temperature: bool = setting(False, "learn the temperature, from this start, as logit_scale = -log of it")
    loss_options: dict[str, Any] = options(
        "further arguments of build_loss, e.g. gamma=0.5",
        taken=("name", "temperature", "learn_temperature", "geometry", "num_samples"),
    )
    geometry: str = setting("cosine", "how two embeddings are compared: `clipedu list geometries`")
    geometry_options: dict[str, Any] = options(
        "further arguments of build_geometry, e.g. learn_curvature=false", taken=("name", "dim")
    )
    entailment: float = setting(
        0.0, "weight of the entailment loss, text above image; Euclidean and hyperbolic (0.2 in MERU)", at_least=0
    )
    entailment_options: dict[str, Any] = options(
        "min_radius (0.1), and final_min_radius to change it linearly over the run", taken=("loss", "weight")
    )
    foils: float = setting(
        0.0,
        "weight of the foil term: each caption against the same one made false in one thing; scenes only (1 is usual)",
        at_least=0,
    )
    foil_kinds: list[str] = names(
        "what a foil is false in; one of those that the caption claims is drawn",
        FOIL_KINDS,
        default=("place", "relation", "binding"),
    )
    # the optimizer
    optimizer: str = setting("adamw", "name of the optimizer: `clipedu list optimizers`")
    lr: float = setting(3e-3, "peak learning rate", above=0)
    image_lr_scale: float = setting(1.0, "lr of the image encoder and its projection, times lr", above=0)
    text_lr_scale: float = setting(1.0, "lr of the text encoder and its projection, times lr", above=0)
    layer_decay: float | None = setting(
        None,
        "lr of each layer of the encoders, times that of the layer above it (0.75); none = all alike",
        above=0,
        at_most=1,
    )
    weight_decay: float = setting(0.02, "weight decay of tensors with two or more dimensions", at_least=0)
    optimizer_options: dict[str, Any] = options(
        "further arguments of the optimizer, e.g. momentum=0.9",
        taken=("model", "name", "params", "lr", "weight_decay", "lr_scales"),
    )
    batch_size: int = setting(128, "pairs in a batch", at_least=2)
    accumulate: int = setting(
        1, "go through the encoders with a batch in this many equal parts: less memory, the same gradient", at_least=1
    )
    epochs: int = setting(2, "passes over the training pairs", at_least=1)
    warmup: float = setting(0.1, "share of all steps in which lr rises linearly from 0", at_least=0, at_most=1)
    schedule: str = setting("cosine", "lr after the warm-up", choices=("cosine", "constant"))
    clip_grad: float | None = setting(None, "largest global gradient norm; none = no clipping", above=0)
    ema_decay: float | None = setting(
        None,
        "also keep an exponential moving average of the weights, with this decay a step (0.999), and score it beside them",
        above=0,
        below=1,
    )
    # what is kept and measured on the way
    norms_every: int = setting(10, "norms of every layer each so many steps (layers.csv)", at_least=1, how=True)
    evaluate_every: int | str | None = setting(
        None,
        "score the model during training, each so many steps (200) or epochs (1epoch), into validation.csv",
        at_least=1,
        interval=("epoch",),
        how=True,
    )
    checkpoint_every: int | str = setting(
        "1min",
        "a checkpoint each so many steps (200) or minutes (1min), and after each epoch",
        at_least=1,
        interval=("time",),
        how=True,
    )
    keep_checkpoints: int = setting(
        2, "how many of the last checkpoints stay; with evaluate_every, the best one too", at_least=1, how=True
    )
    track: list[str] = names(
        "also log the run for others to show: `clipedu list trackers`; none = the run's own tables alone",
        TRACKERS,
        how=True,
    )
    # the machine
    seed: int = setting(
        0, "of the training: first weights, order of batches, augmentation, dropout", at_least=0, at_most=2**63 - 1
    )
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps", rounds=True)
    precision: str = setting("auto", "auto: bf16 where the device is good at it", choices=("auto", "fp32", "bf16"))
    checkpointing: bool = setting(
        False, "keep less for the backward pass and compute it again there: less memory, more time, the same numbers"
    )
    compile: str = setting(
        "none",
        "torch.compile of the encoders, by its mode; rounds otherwise and draws other dropout masks",
        choices=("none", "default", "reduce-overhead", "max-autotune"),
    )

    def __new__(cls, **settings: Any) -> Experiment:
        for name in settings:
            if name not in cls.__dataclass_fields__:
                raise unknown_name("field of Experiment", name, sorted(cls.__dataclass_fields__))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            object.__setattr__(self, spec.name, checked_field(spec, getattr(self, spec.name)))
        check_together(self)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Experiment:
        """Return a named starting point (`PRESETS`), with changes.

        Raises:
            ClipeduError: unknown preset or field, or a value that is not allowed.
        """
        if name not in PRESETS:
            raise unknown_name("preset", name, PRESETS)
        return cls(**{**PRESETS[name].settings, **changes})

    def replace(self, **changes: Any) -> Experiment:
        """Return the same experiment with some fields changed.

        Raises:
            ClipeduError: an unknown field, or a value that is not allowed.
        """
        return type(self)(**{**dataclasses.asdict(self), **changes})

    def to_json(self) -> str:
        """Return all fields as a JSON object; "format" is its version."""
        return write_settings(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        """Return the experiment that `to_json` wrote.

        One without a "format" was written before there were any.

        Raises:
            ClipeduError: a text that is no experiment in JSON, an unknown field, a value that is not allowed, or the form of
                a newer clipedu.
        """
        return cls(**read_settings(text))

    def changed(self, preset: str = "laptop") -> dict[str, Any]:
        """Return the fields that differ from a preset, by name.

        Raises:
            ClipeduError: unknown preset.
        """
        base = Experiment.preset(preset)
        return {
            spec.name: getattr(self, spec.name)
            for spec in dataclasses.fields(self)
            if getattr(self, spec.name) != getattr(base, spec.name)
        }


# Names of the settings that change how a run is done, not its results; and of those that change its rounding.
HOW, ROUNDS = (
    tuple(spec.name for spec in dataclasses.fields(Experiment) if spec.metadata.get(mark)) for mark in ("how", "rounds")
)


def checked_setting(name: str, value: Any) -> Any:
    """Return the value of one setting as an experiment keeps it.

    Whether it fits the other settings is not checked.

    Args:
        name: of a field of `Experiment`.
        value: what the user gave.
    Raises:
        ClipeduError: an unknown field, or a value that is not allowed.
    """
    if name not in Experiment.__dataclass_fields__:
        raise unknown_name("field of Experiment", name, sorted(Experiment.__dataclass_fields__))
    return checked_field(Experiment.__dataclass_fields__[name], value)
