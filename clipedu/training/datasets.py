"""The data of an experiment: sets to train and score on, and tokenizer."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clipedu.config.experiment import HOW, Experiment
from clipedu.data.cleaning import check_cleaning, cleaned, count_escaped
from clipedu.data.identity import changes
from clipedu.data.load import find_folder, load_pairs
from clipedu.data.pairs import Pairs
from clipedu.data.prompts import choose_prompts
from clipedu.data.shards.dataset import Shards
from clipedu.data.shards.samples import MissingSplit, shard_names
from clipedu.data.subset import hold_out
from clipedu.data.tokenizer import Tokenizer, hub_tokenizer, train_tokenizer
from clipedu.models import ENCODERS
from clipedu.models.text_encoders import hub_id
from clipedu.training.memory import check_scenes
from clipedu.training.objective import check_names
from clipedu.training.starting import open_start
from clipedu.utils.errors import ClipeduError

NOT_OF_DATA = {
    *HOW, "seed", "augment", "lock", "lora_rank", "lora_options", "image_lr_scale", "text_lr_scale", "layer_decay", "embedding_dim",
    "loss", "temperature", "learn_temperature", "loss_options", "geometry", "geometry_options", "entailment",
    "entailment_options", "foils", "foil_kinds", "optimizer", "lr", "weight_decay", "optimizer_options", "accumulate", "epochs", "warmup", "schedule",
    "clip_grad", "ema_decay", "device", "precision", "checkpointing", "compile",
}  # fmt: skip
"""Settings that have no part in which data are opened, or in the tokenizer."""

log = logging.getLogger("clipedu")


def load_train(experiment: Experiment) -> Pairs:
    """Load the training pairs of an experiment, without those held out.

    A log line says how many captions hold escaped HTML, unless that is cleaned.

    Raises:
        ClipeduError: a set that is missing or cannot be used, a batch that is larger than it, or no ftfy where it is needed.
    """
    return _training_parts(experiment)[0]


def _training_parts(experiment: Experiment) -> tuple[Pairs, Pairs | None]:
    """Return the pairs to train on, and those that `holdout` keeps from it."""
    check_cleaning(experiment.clean_captions)
    if experiment.data == "scenes":
        check_scenes(experiment.train_size)
    pairs = load_pairs(
        experiment.data,
        "train",
        image_size=experiment.image_size,
        size=experiment.train_size,
        seed=experiment.data_seed,
        resize=experiment.resize,
    )
    held = None
    if experiment.holdout is not None:
        pairs, held = hold_out(pairs, experiment.holdout)
    if experiment.batch_size > len(pairs):
        left = "" if held is None else f" left to train on with holdout={experiment.holdout:g}"
        raise ClipeduError(
            f"batch_size={experiment.batch_size} is larger than the data: {experiment.data} has {len(pairs)} pairs{left}"
        )
    if experiment.clean_captions != "web" and experiment.data != "scenes":
        captions = [caption for row in range(len(pairs)) for caption in pairs.captions(row)]
        if escaped := count_escaped(captions):
            log.warning(
                f"{escaped:,} of {len(captions):,} captions of {pairs.name}/{pairs.split} hold escaped HTML such as &amp;: "
                "clean_captions=web unescapes it, as open_clip does"
            )
    return pairs, held


def build_tokenizer(experiment: Experiment, pairs: Pairs) -> Tokenizer:
    """Load the text model's own tokenizer, or train a WordPiece.

    A WordPiece is trained on the training captions where the model's own is not available. Pretrained weights are
    useless without their own tokenizer, so with them the hub's is required.

    A model to start from has its own.

    Raises:
        ClipeduError: pretrained weights whose tokenizer cannot be fetched, or a model to start from that is not there.
    """
    tokenizer: Any = None
    if experiment.start is not None:
        return open_start(experiment, keep=True).tokenizer
    from_scratch = experiment.text_encoder in ENCODERS and "hub" not in ENCODERS[experiment.text_encoder].defaults
    if not from_scratch or experiment.text_weights == "pretrained":
        try:
            tokenizer = hub_tokenizer(hub_id(experiment.text_encoder), experiment.text_length)
        except ClipeduError:
            if experiment.text_weights != "random":
                raise
    if tokenizer is None:
        captions = [caption for row in range(len(pairs)) for caption in pairs.captions(row)]
        tokenizer = train_tokenizer(cleaned(captions, experiment.clean_captions), experiment.text_length)
    tokenizer.clean = experiment.clean_captions
    return tokenizer


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The training pairs of an experiment, and the tokenizer made for them."""

    train: Pairs
    tokenizer: Tokenizer


@dataclass(frozen=True, kw_only=True)
class Data(TrainingData):
    """All sets of an experiment, and its tokenizer.

    They are opened once, and shared by the cells of a grid.

    Attributes:
        scored: the retrieval set, and the zero-shot set where there is one; with `holdout` the pairs held out, alone.
    """

    scored: list[Pairs]


def load_training_data(experiment: Experiment, tokenizer: Tokenizer | None = None) -> TrainingData:
    """Open the training pairs of an experiment.

    Args:
        experiment: its names are checked first.
        tokenizer: of an earlier part of the run; None builds it from the training captions, or takes the text model's own.
    Raises:
        ClipeduError: an unknown name, or a set that is missing or does not fit.
    """
    check_names(experiment)
    train = load_train(experiment)
    return TrainingData(train=train, tokenizer=tokenizer or build_tokenizer(experiment, train))


def load_data(experiment: Experiment, tokenizer: Tokenizer | None = None) -> Data:
    """Open all sets of an experiment.

    A set that is missing is thus reported before the training, not after it. Arguments and errors are those of
    `load_training_data`.
    """
    check_names(experiment)
    train, held = _training_parts(experiment)
    scored = evaluation_sets(experiment) if held is None else [held]
    return Data(train=train, tokenizer=tokenizer or build_tokenizer(experiment, train), scored=scored)


def data_key(experiment: Experiment) -> str:
    """Return what decides which data an experiment opens, and its tokenizer.

    Experiments with the same key can share one `load_data`. A setting that is not known to have no part in it counts.
    """
    plain = Experiment()
    return experiment.replace(**{name: getattr(plain, name) for name in NOT_OF_DATA}).to_json()


def check_held_out(experiment: Experiment, data: Data | None = None) -> None:
    """Check that a new run is scored on other pairs than it is trained on.

    Whoever names the set to score on (`eval_data`) may give any: what it shares with the training pairs is counted.

    Args:
        experiment: of the run.
        data: its sets; None looks at the names of the shards alone, before any is read.
    Raises:
        ClipeduError: it names none, and the retrieval set would consist of the training pairs, or of all shards that they
            are from.
    """
    if experiment.eval_data is not None or experiment.holdout is not None or experiment.data == "scenes":
        return
    if data is None:
        try:
            folder = find_folder(experiment.data)
            same = shard_names(folder, "train")[0] == shard_names(folder, "val")[0]
        except ClipeduError:  # no set, or no split: `load_data` says so
            return
    else:
        train, val = data.train, data.scored[0]
        if not (isinstance(train, Shards) and isinstance(val, Shards)):
            return
        same = train.shards == val.shards or (len(train) == len(val) and not changes(train.identity(), val.identity()))
    if same:
        raise ClipeduError(
            f"{experiment.data} has no pairs of its own to score on: its splits train and val are the same pairs (a shard "
            "belongs to the split that its name says, and to all where no name says one). Give others with --eval-data "
            f"NAME, or score on the pairs that are trained on with --eval-data {shlex.quote(experiment.data)}"
        )


def describe(pairs: Pairs) -> dict[str, Any]:
    """Describe a set, for a run's data.json.

    Returns:
        its name, split, rows, image size, fingerprint and identity (`clipedu.data.pairs`), every sample that was left out and
        why, also summed up, and how many captions are cut (null for a set that is not tokenized yet).
    """
    return {
        "name": pairs.name,
        "split": pairs.split,
        "rows": len(pairs),
        "image_size": pairs.image_size,
        "fingerprint": pairs.fingerprint(),
        "identity": pairs.identity(),
        "skipped": list(pairs.skipped),
        "left_out": list(pairs.left_out),
        "captions_cut": pairs.captions_cut,
    }


def check_unchanged(before: Mapping[str, Any], pairs: Pairs, name: str) -> None:
    """Check that the training pairs are those of the run so far.

    Args:
        before: "data", the fingerprint, and "identity" of the pairs then; older versions kept no identity.
        pairs: as they are now.
        name: of the data, for the message.
    Raises:
        ClipeduError: they are others; says what has changed.
    """
    what = changes(before.get("identity", {}), pairs.identity())
    if before["data"] != pairs.fingerprint() and not what:
        what = ["its fingerprint, of names, sizes and labels"]
    if what:
        raise ClipeduError(
            f"the data {name!r} has changed since the run was stopped ({'; '.join(what)}), so the run "
            "cannot be resumed: bring back the data as it was, or start a new run"
        )


def evaluation_sets(experiment: Experiment) -> list[Pairs]:
    """Open the sets on which an experiment is scored.

    They are the retrieval set and, where there is one, the zero-shot set: `zeroshot_data`, or else that of the training
    data if it is a set that comes with one (scenes). With `holdout` it is the part of the training pairs that is held out,
    and no other set is opened.

    Raises:
        ClipeduError: a set that is missing or cannot be used.
    """
    if (held := _training_parts(experiment)[1] if experiment.holdout is not None else None) is not None:
        return [held]
    shared: dict[str, Any] = {
        "image_size": experiment.image_size,
        "resize": experiment.resize,
        "seed": experiment.data_seed,
    }
    try:
        sets = [load_pairs(experiment.eval_data or experiment.data, "val", **shared)]
    except MissingSplit as error:
        if experiment.eval_data is not None:
            raise
        raise ClipeduError(
            f"{error}. Give pairs to score on: --eval-data NAME, or put a split 'val' into the data"
        ) from None
    if len(sets[0]) < 2:
        raise ClipeduError(f"{sets[0].name}/val has {len(sets[0])} pair to score on, and retrieval needs at least 2")
    zeroshot = experiment.zeroshot_data or ("scenes" if experiment.data == "scenes" else None)
    if zeroshot is not None:
        sets.append(load_pairs(zeroshot, "zeroshot", **shared))
    chosen = {"class_names": experiment.class_names, "templates": experiment.templates}
    if zeroshot is None and "open_clip" in chosen.values():
        words = ", ".join(f"{key}={word!r}" for key, word in chosen.items() if word != "clipedu")
        raise ClipeduError(f"{words} without zero-shot classification: give labelled images with --zeroshot-data")
    if zeroshot is not None:
        choose_prompts(sets[-1], **chosen)
    return sets
