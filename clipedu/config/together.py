"""Settings of an experiment that exclude each other."""

from __future__ import annotations

from typing import Any

from clipedu.utils.errors import ClipeduError

RELEASED = "released"  # encoders of a released model, which `start` names


def check_together(experiment: Any) -> None:
    """Refuse settings that exclude each other.

    Args:
        experiment: an `Experiment`, whose fields have been checked one by one.
    Raises:
        ClipeduError: two settings do not fit; names both.
    """
    ex = experiment
    _check_start(ex)
    _check_foils(ex)
    if ex.augment != "none" and ex.image_frozen:
        raise ClipeduError(
            f"augment={ex.augment!r} with image_frozen=True: features of a frozen encoder are computed "
            "once, so they cannot be augmented. Set augment='none' or image_frozen=False"
        )
    if ex.batch_size % ex.accumulate:
        raise ClipeduError(f"batch_size={ex.batch_size} cannot be cut into accumulate={ex.accumulate} equal parts")
    if ex.train_size is not None and ex.batch_size > ex.train_size:
        raise ClipeduError(f"batch_size={ex.batch_size} is larger than the data: train_size={ex.train_size}")


def _check_start(ex: Any) -> None:
    released = [name for name in ("image_encoder", "text_encoder") if getattr(ex, name) == RELEASED]
    if released and (ex.start is None or len(released) == 1):
        raise ClipeduError(
            f"{released[0]}={RELEASED!r} is that of a released model which a run starts from: clipedu train --from MODEL, or "
            "clipedu.start_from(MODEL) in Python"
        )
    if ex.layer_decay is not None and ex.image_frozen and ex.text_frozen:
        raise ClipeduError(
            f"layer_decay={ex.layer_decay:g} has no effect with image_frozen=True and text_frozen=True: no layer is trained"
        )
    if ex.lora_rank is not None and ex.image_frozen and ex.text_frozen:
        raise ClipeduError(
            f"lora_rank={ex.lora_rank} adapts encoders, and image_frozen=True and text_frozen=True freeze both: leave one of them out"
        )


def _check_foils(ex: Any) -> None:
    if not ex.foils:
        return
    given = f"foils={ex.foils:g}"
    if ex.data != "scenes":
        raise ClipeduError(
            f"{given} with data={ex.data!r}: only of scenes it is known what makes a caption false. Set foils=0 or data='scenes'"
        )
    if ex.text_frozen:
        raise ClipeduError(
            f"{given} with text_frozen=True: features of a frozen text encoder are computed once, and foils are other captions "
            "in each epoch. Set foils=0 or text_frozen=False"
        )
    if not ex.foil_kinds:
        raise ClipeduError(f"{given} with foil_kinds=[]: give at least one, or set foils=0")
