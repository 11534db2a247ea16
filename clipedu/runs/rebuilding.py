"""A run's model and geometry, made again from its folder.

The experiment says the form, a checkpoint the weights. Neither the hub is needed, nor what the run has started from. What does not
fit is told with the file that is at fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from clipedu.config.experiment import RELEASED as RELEASED_ENCODER
from clipedu.config.experiment import Experiment
from clipedu.interop.kept import RELEASED, rebuild, released_sum
from clipedu.interop.resizing import resized_state
from clipedu.runs.checkpoint import AVERAGED, WEIGHTS, read_facts
from clipedu.runs.kept import text_config_sum, tokenizer_sum
from clipedu.runs.settings import PATH_FIELDS, check_settings
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import read_json
from clipedu.utils.tensor_files import tensors_misfit

if TYPE_CHECKING:
    from torch import Tensor

    from clipedu.geometry import Geometry
    from clipedu.models import DualEncoder


class Stored(Protocol):
    """What is read of a run: see `clipedu.runs.run.Run`."""

    folder: Path
    experiment: Experiment

    def checkpoint(self, which: str = ...) -> Path: ...
    def weights(self, prefix: str = ..., *, which: str = ..., averaged: bool = ...) -> dict[str, Tensor]: ...
    def model(self) -> DualEncoder: ...


def load_model(run: Stored, which: str, *, averaged: bool, merged: bool) -> DualEncoder:
    """Load a run's model in evaluation mode, on the CPU.

    Args:
        run: it is read from its folder.
        which, averaged, merged: as those of `Run.model`.
    Raises:
        ClipeduError: as `Run.model`.
    """
    from clipedu.models.adapters import add_adapters, merge_adapters
    from clipedu.models.locking import freeze, lock

    ex, model = run.experiment, empty_model(run, read_facts(run.checkpoint(which)))
    with _named(run.folder):
        freeze(model, [side for side in ("image", "text") if getattr(ex, f"{side}_frozen")])
        lock(model, ex.lock)
        if ex.lora_rank is not None:
            add_adapters(model, ex.lora_rank, ex.lora_options, image_size=ex.image_size, seed=ex.seed, tell=False)
    model.load_state_dict(_fitting(run, model.state_dict(), which=which, averaged=averaged))
    return (merge_adapters(model) if merged else model).eval()


def model_to_train(run: Stored, image_size: int | None = None) -> DualEncoder:
    """Load a run's last model for another run to start from.

    Nothing of it is frozen, and adapters are merged.

    Args:
        run: it is read from its folder.
        image_size: height and width of the images; None takes those of the run. Of another size positions are resampled.
    Raises:
        ClipeduError: as `Run.model`, and an image encoder that cannot read this size.
    """
    ex, model = run.experiment, run.model()
    if image_size not in (None, ex.image_size):
        return _resized(run, model, int(image_size or 0))
    if not (ex.image_frozen or ex.text_frozen or ex.lock or ex.lora_rank):
        return model
    plain = empty_model(run, read_facts(run.checkpoint()))
    plain.load_state_dict(model.state_dict())
    return plain.eval()


def _resized(run: Stored, model: DualEncoder, image_size: int) -> DualEncoder:
    """Return a run's model for images of another size, nothing of it frozen."""
    try:
        plain = empty_model(run, read_facts(run.checkpoint()), image_size=image_size)
        plain.load_state_dict(resized_state(model, plain, image_size))
    except ClipeduError as error:
        why = str(error).removeprefix(f"{run.folder / 'experiment.json'} cannot be used: ")
        raise ClipeduError(
            f"image_size={image_size} cannot be given beside {run.folder}, whose images have {run.experiment.image_size} pixels a side: {why}"
        ) from None
    return plain.eval()


def empty_model(run: Stored, facts: dict[str, Any], *, image_size: int | None = None) -> DualEncoder:
    """Build a run's model with its tokenizer, and with random weights.

    It needs neither the hub nor what the run has started from. Nothing is frozen, and there are no adapters.

    Args:
        run: it is read from its folder.
        facts: of a checkpoint (`read_facts`).
        image_size: height and width of the images; None takes those of the run.
    Raises:
        ClipeduError: settings, a tokenizer, a text configuration or a released model's settings that are not those it was trained with.
    """
    from clipedu.data.tokenizer import Tokenizer
    from clipedu.models import build_model

    folder = run.folder
    check_settings(folder, run.experiment, facts, allowed=(*PATH_FIELDS, "epochs"))
    if run.experiment.image_encoder == RELEASED_ENCODER:
        if released_sum(folder) != facts.get("released"):
            raise ClipeduError(
                f"{folder / RELEASED} is not what the run was trained with, and the model cannot be built without it: put a copy back"
            )
        return rebuild(folder / RELEASED, image_size or run.experiment.image_size)
    tokenizer = Tokenizer.load(folder / "tokenizer")
    if facts.get("tokenizer") not in (None, tokenizer_sum(tokenizer)):
        raise ClipeduError(
            f"the tokenizer in {folder} is not the one it was trained with: it is made again by clipedu train --resume {folder}"
        )
    if (saved := saved_text(folder)) and facts.get("text_encoder") not in (None, text_config_sum(folder)):
        raise ClipeduError(
            f"{folder / 'text_encoder' / 'config.json'} is not what the run was trained with: it is made again by "
            f"clipedu train --resume {folder}"
        )
    changes: dict[str, Any] = {"image_weights": "random", "text_weights": "random"}  # the checkpoint has all
    if image_size is not None:
        changes["image_size"] = image_size
    experiment = run.experiment.replace(
        **changes, image_frozen=False, text_frozen=False, layer_decay=None, lora_rank=None
    )
    with _named(folder, saved):
        model = build_model(experiment, tokenizer.vocab_size, special_tokens=tokenizer.special_tokens, saved_text=saved)
    model.tokenizer = tokenizer
    return model


def saved_text(folder: Path) -> Path | None:
    """Return the folder of the text encoder's configuration.

    None where it is missing or damaged: the configuration is then made again from the experiment.
    """
    saved = folder / "text_encoder"
    try:
        return saved if read_json(saved / "config.json") else None
    except ClipeduError:
        return None


def load_geometry(run: Stored) -> Geometry:
    """Load a run's geometry, with curvature and scales as they were learned.

    Raises:
        ClipeduError: as `Run.weights`.
    """
    from clipedu.geometry import build_geometry

    ex = run.experiment
    with _named(run.folder):
        geometry = build_geometry(ex.geometry, ex.embedding_dim, **ex.geometry_options)
    if own := geometry.state_dict(prefix="geometry."):
        learned = _fitting(run, own, "geometry.")
        geometry.load_state_dict({name.removeprefix("geometry."): value for name, value in learned.items()})
    return geometry.eval()


@contextmanager
def _named(folder: Path, saved_text: Path | None = None) -> Iterator[None]:
    """Name experiment.json in errors about what it holds, or the text encoder's configuration where that is at fault."""
    try:
        yield
    except (ClipeduError, TypeError, RuntimeError, MemoryError) as error:
        why, path, remedy = next(iter(str(error).splitlines()), type(error).__name__), "experiment.json", ""
        if saved_text is not None and why.startswith("text encoder "):
            path = "text_encoder/config.json"
            remedy = f". If it was changed, remove {saved_text}: it is then made again from the settings"
        raise ClipeduError(f"{folder / path} cannot be used: {why}{remedy}") from None


def _fitting(
    run: Stored, wanted: Mapping[str, Tensor], prefix: str = "", *, which: str = "last", averaged: bool = False
) -> dict[str, Tensor]:
    """Read weights that are to fit `wanted`, or raise a ClipeduError."""
    weights = run.weights(prefix, which=which, averaged=averaged)
    if fault := tensors_misfit(weights, wanted):
        name = AVERAGED if averaged else WEIGHTS
        raise ClipeduError(
            f"{run.checkpoint(which) / name} does not fit its experiment: {fault} by the settings and the tokenizer of the run"
        )
    return weights
