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
import json
from dataclasses import dataclass, field
from typing import Any

from clipedu.config.field_checks import checked_field
from clipedu.config.presets import PRESETS
from clipedu.utils.errors import ClipeduError, unknown_name
from clipedu.utils.files import parse_json

TRACKERS = ("tensorboard", "trackio", "wandb")  # `clipedu.trackers` opens them
FORMAT = 2  # of the JSON; it grows when a field gets another meaning, so that older versions refuse what they misread
BEFORE = {"projection_bias": True}  # what settings were before they could be set, where that is not their default
RELEASED = "released"  # encoders of a released model, which `start` names
OF_START = (
    *("image_size", "text_length", "clean_captions", "image_encoder", "image_weights", "image_options", "pixel_stats"),
    *("text_encoder", "text_weights", "text_options", "text_pooling", "embedding_dim", "projection_bias"),
    *("geometry", "geometry_options"),
)
"""Settings that say what a model is: one that a run starts from fixes them."""


def _setting(default: Any, text: str, **check: Any) -> Any:
    """Make a field with a one-line description and a condition.

    `--help` and the report show the description; the value must fulfil the condition. Two marks say
    what may be changed when a run goes on: `how=True`, it changes no result (`HOW`); `rounds=True`, results differ by rounding
    alone, as they do from machine to machine (`ROUNDS`).
    """
    return field(default=default, metadata={"text": text, **check})


def _options(text: str, taken: tuple[str, ...]) -> Any:
    """Make a field of further arguments of a builder.

    The names in `taken` are not allowed in it, because the experiment's own fields give them.
    """
    return field(default_factory=dict, metadata={"text": text, "taken": taken})


def _names(text: str, choices: tuple[str, ...] | None = None, **marks: Any) -> Any:
    """Make a field of any number of names, out of `choices` or (None) any; one alone may be given as a str."""
    return field(
        default_factory=list, metadata={"text": text, **({} if choices is None else {"choices": choices}), **marks}
    )


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One training run.

    Descriptions of the fields are in their metadata; `clipedu train --help` prints them all.

    Raises:
        ClipeduError: an unknown field, or a value that is not allowed.
    """

    # the data
    data: str = _setting("scenes", "training pairs: scenes, a folder of .tar shards, or a name under $CLIPEDU_DATA")
    train_size: int | None = _setting(
        None, "use the first N training pairs; none = all of them (16,000 scenes)", at_least=2
    )
    holdout: float | None = _setting(
        None,
        "hold out this share of the training pairs (0.1) and score on it alone, in place of the sets below: for choosing settings",
        above=0,
        below=1,
    )
    eval_data: str | None = _setting(None, "retrieval set (its val split); none = that of the training data")
    zeroshot_data: str | None = _setting(
        None, "labelled images for zero-shot; none = those of the training data, if any"
    )
    class_names: str = _setting(
        "clipedu",
        "of ImageNet in zero-shot: clipedu's, or open_clip's, as published numbers have them",
        choices=("clipedu", "open_clip"),
    )
    templates: str = _setting(
        "clipedu",
        "prompts of zero-shot: clipedu = the set's own (7 for photographs), open_clip = the 80 of published numbers",
        choices=("clipedu", "open_clip"),
    )
    image_size: int = _setting(32, "height and width of the images, pixels", at_least=8, at_most=1024)
    resize: str = _setting("crop", "how photographs become square", choices=("crop", "squash"))
    text_length: int = _setting(24, "longest caption in tokens, [CLS] and [SEP] included", at_least=3, at_most=65_536)
    clean_captions: bool | str = _setting(
        False,
        "true: lower case, no punctuation, first 30 words, as the course does; web: HTML and wrong encodings mended, as "
        "open_clip does; false: none",
        also=("web",),
    )
    augment: str = _setting(
        "none",
        "on the device: random resized crop (area 0.5-1), flip, the course's RandAugment",
        choices=("none", "crop", "crop-flip", "crop-flip-randaugment"),
    )
    # the model
    image_encoder: str = _setting("test_resnet", "any timm model, or a name that `clipedu list encoders` shows")
    image_weights: str = _setting("random", "random, pretrained (from the hub), or a file of weights")
    image_frozen: bool = _setting(False, "train only the projection on top; features are computed once and kept")
    image_options: dict[str, Any] = _options(
        "further arguments of timm.create_model, e.g. pad_type=same",
        taken=("name", "weights", "image_size", "model_name", "pretrained", "num_classes"),
    )
    pixel_stats: str = _setting(
        "auto",
        "mean and std of pixels; auto = those the image encoder was made with",
        choices=("auto", "imagenet", "inception", "clip"),
    )
    text_encoder: str = _setting("distilbert-nano", "any transformers text model, or a name that `clipedu list` shows")
    text_weights: str = _setting("random", "random, pretrained (from the hub), or a file of weights")
    text_frozen: bool = _setting(False, "train only the projection on top; features are computed once and kept")
    text_options: dict[str, Any] = _options(
        "changes to the text model's config, e.g. dropout=0.2",
        taken=("name", "weights", "vocab_size", "special_tokens"),
    )
    text_pooling: str = _setting(
        "auto",
        "cls: hidden state of the first token; last: of the last one; mean: over all; auto: mean, or last where the encoder "
        "reads from left to right",
        choices=("auto", "cls", "last", "mean"),
    )
    embedding_dim: int = _setting(128, "width of the shared embedding", at_least=2)
    projection_bias: bool = _setting(
        False,
        "a bias in the projections; false: none, with CLIP's start (std width^-1/2); true: torch's own linear layer",
    )
    # where it starts
    start: str | None = _setting(
        None,
        "a model to fine-tune: a run's folder, open_clip:NAME, hf:OWNER/NAME, or a folder or file of a released model; what it "
        "fixes is taken from it; none = from scratch",
        option="from",
    )
    start_weights: str | None = _setting(
        None,
        "weights of that model: a pretrained tag of open_clip, a file, or random; none = its own",
        option="from-weights",
    )
    lock: list[str] = _names(
        "what is not trained, by name: image_encoder.visual.conv1 text_encoder image_projection; batch_norms = all of them, with "
        "their statistics; none = nothing"
    )
    lora_rank: int | None = _setting(
        None,
        "train low-rank adapters of this rank in the encoders, in place of their weights; none = the weights",
        at_least=1,
    )
    lora_options: dict[str, Any] = _options(
        "further arguments of peft.LoraConfig, e.g. lora_alpha=16 (default 2 x rank), lora_dropout=0.1",
        taken=("r", "inference_mode", "task_type", "modules_to_save", "bias"),
    )
    # the objective
    loss: str = _setting("clip", "name of the loss: `clipedu list losses`")
    temperature: float | None = _setting(
        None, "softmax temperature of the loss; none = where the geometry starts (cosine 0.05)", above=0
    )
    learn_temperature: bool = _setting(False, "learn the temperature, from this start, as logit_scale = -log of it")
    loss_options: dict[str, Any] = _options(
        "further arguments of build_loss, e.g. gamma=0.5",
        taken=("name", "temperature", "learn_temperature", "geometry", "num_samples"),
    )
    geometry: str = _setting("cosine", "how two embeddings are compared: `clipedu list geometries`")
    geometry_options: dict[str, Any] = _options(
        "further arguments of build_geometry, e.g. learn_curvature=false", taken=("name", "dim")
    )
    entailment: float = _setting(
        0.0, "weight of the entailment loss, text above image; Euclidean and hyperbolic (0.2 in MERU)", at_least=0
    )
    entailment_options: dict[str, Any] = _options(
        "min_radius (0.1), and final_min_radius to change it linearly over the run", taken=("loss", "weight")
    )
    # the optimizer
    optimizer: str = _setting("adamw", "name of the optimizer: `clipedu list optimizers`")
    lr: float = _setting(3e-3, "peak learning rate", above=0)
    image_lr_scale: float = _setting(1.0, "lr of the image encoder and its projection, times lr", above=0)
    text_lr_scale: float = _setting(1.0, "lr of the text encoder and its projection, times lr", above=0)
    layer_decay: float | None = _setting(
        None,
        "lr of each layer of the encoders, times that of the layer above it (0.75); none = all alike",
        above=0,
        at_most=1,
    )
    weight_decay: float = _setting(0.02, "weight decay of tensors with two or more dimensions", at_least=0)
    optimizer_options: dict[str, Any] = _options(
        "further arguments of the optimizer, e.g. momentum=0.9",
        taken=("model", "name", "params", "lr", "weight_decay", "lr_scales"),
    )
    batch_size: int = _setting(128, "pairs in a batch", at_least=2)
    accumulate: int = _setting(
        1, "go through the encoders with a batch in this many equal parts: less memory, the same gradient", at_least=1
    )
    epochs: int = _setting(2, "passes over the training pairs", at_least=1)
    warmup: float = _setting(0.1, "share of all steps in which lr rises linearly from 0", at_least=0, at_most=1)
    schedule: str = _setting("cosine", "lr after the warm-up", choices=("cosine", "constant"))
    clip_grad: float | None = _setting(None, "largest global gradient norm; none = no clipping", above=0)
    ema_decay: float | None = _setting(
        None,
        "also keep an exponential moving average of the weights, with this decay a step (0.999), and score it beside them",
        above=0,
        below=1,
    )
    # what is kept and measured on the way
    norms_every: int = _setting(10, "norms of every layer each so many steps (layers.csv)", at_least=1, how=True)
    evaluate_every: int | str | None = _setting(
        None,
        "score the model during training, each so many steps (200) or epochs (1epoch), into validation.csv",
        at_least=1,
        interval=("epoch",),
        how=True,
    )
    checkpoint_every: int | str = _setting(
        "1min",
        "a checkpoint each so many steps (200) or minutes (1min), and after each epoch",
        at_least=1,
        interval=("time",),
        how=True,
    )
    keep_checkpoints: int = _setting(
        2, "how many of the last checkpoints stay; with evaluate_every, the best one too", at_least=1, how=True
    )
    track: list[str] = _names(
        "also log the run for others to show: `clipedu list trackers`; none = the run's own tables alone",
        TRACKERS,
        how=True,
    )
    # the machine
    seed: int = _setting(0, "everything random comes from it", at_least=0, at_most=2**63 - 1)
    device: str = _setting("auto", "auto, cpu, cuda, cuda:1, mps", rounds=True)
    precision: str = _setting("auto", "auto: bf16 where the device is good at it", choices=("auto", "fp32", "bf16"))
    checkpointing: bool = _setting(
        False, "keep less for the backward pass and compute it again there: less memory, more time, the same numbers"
    )
    compile: str = _setting(
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
        self._check_start()
        if self.augment != "none" and self.image_frozen:
            raise ClipeduError(
                f"augment={self.augment!r} with image_frozen=True: features of a frozen encoder are computed "
                "once, so they cannot be augmented. Set augment='none' or image_frozen=False"
            )
        if self.batch_size % self.accumulate:
            raise ClipeduError(
                f"batch_size={self.batch_size} cannot be cut into accumulate={self.accumulate} equal parts"
            )
        if self.train_size is not None and self.batch_size > self.train_size:
            raise ClipeduError(f"batch_size={self.batch_size} is larger than the data: train_size={self.train_size}")

    def _check_start(self) -> None:
        released = [name for name in ("image_encoder", "text_encoder") if getattr(self, name) == RELEASED]
        if released and (self.start is None or len(released) == 1):
            raise ClipeduError(
                f"{released[0]}={RELEASED!r} is that of a released model which a run starts from: clipedu train --from MODEL, or "
                "clipedu.start_from(MODEL) in Python"
            )
        if self.layer_decay is not None and self.image_frozen and self.text_frozen:
            raise ClipeduError(
                f"layer_decay={self.layer_decay:g} has no effect with image_frozen=True and text_frozen=True: no layer is trained"
            )
        if self.lora_rank is not None and self.image_frozen and self.text_frozen:
            raise ClipeduError(
                f"lora_rank={self.lora_rank} adapts encoders, and image_frozen=True and text_frozen=True freeze both: leave one of them out"
            )

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
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Experiment:
        """Return the experiment that `to_json` wrote.

        One without a "format" was written before there were any.

        Raises:
            ClipeduError: a text that is no experiment in JSON, an unknown field, a value that is not allowed, or the form of
                a newer clipedu.
        """
        try:
            settings = parse_json(text)
        except ValueError as error:
            raise ClipeduError(f"this is not an experiment in JSON: {error}") from None
        if not isinstance(settings, dict):
            raise ClipeduError(f"an experiment in JSON is an object of settings, not a {type(settings).__name__}")
        form = settings.pop("format", 0)
        if not isinstance(form, int) or isinstance(form, bool) or form < 0:
            raise ClipeduError(f"format={form!r} must be a whole number: this clipedu writes {FORMAT}")
        if form > FORMAT:
            raise ClipeduError(
                f"format={form} is that of a newer clipedu; this one reads formats up to {FORMAT}: update clipedu"
            )
        return cls(**{**(BEFORE if form < FORMAT else {}), **settings})

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
