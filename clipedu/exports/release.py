"""`Release`: a model that is exported, and what its users must know of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clipedu.models.dual_encoder import DualEncoder, evaluating
from clipedu.runs.checkpoint import step_of
from clipedu.runs.folders import check_named, load_run
from clipedu.runs.run import Run
from clipedu.utils.errors import ClipeduError, shorten, without_trace
from clipedu.workflow.opening import Scale, is_of_library, open_model, scale_of

if TYPE_CHECKING:
    from clipedu.exports.timm_tower import TimmTower

NOT_EQUAL = 1e-5  # of the largest number of an embedding
PROBES = [
    "a photo of a red star",
    "Two dogs, one brown and one black, play outside - it's raining!",
    "Crème <person> & co/op",
]


@dataclass(frozen=True)
class Release:
    """A model to export.

    Attributes:
        name: as it was given.
        model: in evaluation mode, in float32, on the CPU, with its tokenizer.
        image_size: height and width of its images.
        resize: how they are made square, "crop" or "squash".
        scale: what its similarities are multiplied by; None where nothing says it.
        run: that trained it; None for a model of another library.
        weights: of which checkpoint they are, in words.
        step: of that checkpoint.
        scored: the scores in the run's folder are those of these weights.
        pretrained: which weights of a model of another library they are, as they were asked for.
    """

    name: str
    model: DualEncoder
    image_size: int
    resize: str
    scale: Scale | None = None
    run: Run | None = None
    weights: str = ""
    step: int | None = None
    scored: bool = False
    pretrained: str | None = None

    @property
    def mean(self) -> list[float]:
        """Mean of the pixels in 0..1, a number a channel."""
        return _three(self.model.mean)

    @property
    def std(self) -> list[float]:
        """Standard deviation of the pixels in 0..1, a number a channel."""
        return _three(self.model.std)

    @property
    def geometry(self) -> str:
        """Name of the geometry that it is compared in."""
        return self.model.geometry.name

    @property
    def clean(self) -> bool | str:
        """How captions are cleaned before they become tokens."""
        return getattr(self.model.tokenizer, "clean", False)

    @property
    def length(self) -> int:
        """Tokens of a text, the special ones included."""
        return self.model.tokenizer.length

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        with torch.no_grad():
            return self.model.project_image(torch.zeros(1, self.model.widths["image"])).shape[1]

    @property
    def bias(self) -> float | None:
        """What is added to a pair's logit; None for nothing."""
        return None if self.scale is None else self.scale.bias

    def pixels(self) -> Tensor:
        """Return two images of noise, uint8 [2, 3, S, S], to compare models with."""
        generator = torch.Generator().manual_seed(0)
        size = (2, 3, self.image_size, self.image_size)
        return torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)

    @property
    def texts(self) -> list[str]:
        """A few texts to compare models with."""
        return list(PROBES)

    def tokens(self) -> tuple[Tensor, Tensor]:
        """Return ids [T, L] and mask [T, L] of `texts`, padded to the longest."""
        ids, lengths = self.model.tokenizer.encode(self.texts)
        mask = torch.arange(int(lengths.max()))[None] < torch.from_numpy(lengths)[:, None]
        return torch.from_numpy(ids[:, : lengths.max()].astype("int64")), mask

    @torch.no_grad()
    def embeddings(self) -> tuple[Tensor, Tensor]:
        """Return the model's own embeddings, [2, D] and [T, D].

        They are those of `pixels` and `tokens`.
        """
        with evaluating(self.model):
            return self.model.encode_image(self.pixels()), self.model.encode_text(*self.tokens())


def open_release(
    given: str | Path, weights: str | os.PathLike | None = None, *, checkpoint: str = "last", averaged: bool = False
) -> Release:
    """Open a model for export.

    Args:
        given: a run's folder, or a model of another library, as `clipedu.adopt` takes it.
        weights: as of `clipedu.adopt`; a run has its own.
        checkpoint: of a run, "last" or "best".
        averaged: take the moving average of a run's weights.
    Raises:
        ClipeduError: there is no such model, the run is not finished, or an option that has no effect.
    """
    weights = None if weights is None else os.fspath(weights)
    if is_of_library(given):
        check_named(os.fspath(given))
        if checkpoint != "last" or averaged:
            option = "averaged" if averaged else f"checkpoint={checkpoint}"
            raise ClipeduError(f"{option} has no effect: {given} is no run of clipedu, and has no checkpoints")
        opened = open_model(given, weights)
        model = _plain(opened.model)
        size, resize = opened.experiment.image_size, opened.experiment.resize
        return Release(opened.name, model, size, resize, opened.scale, pretrained=weights)
    if weights is not None or not os.path.exists(given):
        open_model(given, weights)  # which says what is wrong
    run = load_run(given)
    if run.status != "finished":
        note = f" ({run.note})" if run.note else ""
        raise ClipeduError(
            f"{given} is {run.status}, not finished{note}: finish it first, with clipedu train --resume {given}"
        )
    if checkpoint == "last":
        run.choose_sound_checkpoint()
    model, step = run.model(checkpoint, averaged=averaged), step_of(run.checkpoint(checkpoint))
    which = f"{'the best' if checkpoint == 'best' else 'the last'} checkpoint, after step {step}"
    ex = run.experiment
    return Release(
        os.fspath(given),
        _plain(model),
        ex.image_size,
        ex.resize,
        scale_of(run, checkpoint),
        run,
        f"the moving average of the weights at {which}" if averaged else which,
        step,
        scored=checkpoint == "last" and not averaged,
    )


def check_equal(release: Release, image: Tensor | None, text: Tensor | None, what: str) -> None:
    """Check that an exported model gives the embeddings of the model itself.

    Args:
        release: the model.
        image, text: of `Release.pixels` and `Release.tokens`, by the exported model; None where it has no such tower.
        what: was exported, for the error.
    Raises:
        ClipeduError: they differ by more than 1e-5 of the largest number.
    """
    for side, theirs, ours in zip(("image", "text"), (image, text), release.embeddings(), strict=True):
        if theirs is None:
            continue
        if theirs.shape != ours.shape:
            raise ClipeduError(
                f"{what} cannot be exported: it has {side} embeddings of {list(theirs.shape)}, not {list(ours.shape)}"
            )
        difference = float((theirs - ours).abs().max() / ours.abs().max().clamp(min=1e-30))
        if not difference <= NOT_EQUAL:
            raise ClipeduError(
                f"{what} cannot be exported: its {side} embeddings differ from those of {release.name} by {difference:.1e} of the "
                f"largest number, and at most {NOT_EQUAL:g} is rounding"
            )


@contextmanager
def told_in_one_line(release: Release, library: str) -> Iterator[None]:
    """Turn any error of a library about what is exported into one line.

    Args:
        release: the model.
        library: that it is exported to.
    Raises:
        ClipeduError: whatever failed inside, but for errors of the system.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (ClipeduError, OSError, MemoryError, SafetensorError):  # the last is a full disk: another library is no help
        raise
    except Exception as error:  # noqa: BLE001  each library refuses a model in its own way
        lines = without_trace(error).split("\n")
        reason = shorten(" ".join(filter(None, map(str.strip, lines[:2]))) or type(error).__name__, 250)
        raise ClipeduError(
            f"{release.name} cannot be exported to {library}, which says: {reason}. Try another library with --to"
        ) from None


def own_tower(release: Release) -> TimmTower:
    """Return how timm makes the image encoder again.

    Raises:
        ClipeduError: it is none of timm's.
    """
    from clipedu.exports.timm_tower import timm_tower

    if (tower := timm_tower(release.model.image_encoder)) is None:
        kind = type(release.model.image_encoder).__name__
        raise ClipeduError(
            f"the image encoder of {release.name} ({kind}) is none of timm's: --to onnx takes any, and a released model goes back to "
            "the library it came from"
        )
    return tower


def dropped_norms(release: Release) -> dict[str, str]:
    """Return the last norms that a run left out, by encoder.

    With `final_norm=False`.
    """
    found = {
        side: getattr(getattr(release.model, side), "dropped_norm", None) for side in ("image_encoder", "text_encoder")
    }
    return {side: name for side, name in found.items() if name is not None}


def has_bias(projection: nn.Module) -> bool:
    """Return whether a projection adds a vector that is not zero."""
    bias: Any = getattr(projection, "bias", None)
    return bias is not None and bool(bias.any())


def _plain(model: DualEncoder) -> DualEncoder:
    return model.cpu().float().eval()


def _three(numbers: Tensor) -> list[float]:
    """Return the numbers as they were written: float32 of 0.481 times 255, and back, is not 0.481."""
    return [round(float(number) / 255, 7) for number in numbers.flatten()]
