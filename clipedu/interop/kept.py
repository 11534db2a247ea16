"""What a run keeps of a released model: all but its weights.

    keep_released(model, "hf:openai/clip-vit-base-patch32", folder)     settings and tokenizer, into a folder
    rebuild(folder / "released")                                        the model, with random weights

The folder has the form of the model's library, so that library builds it again, with neither the hub nor what the model was loaded from.
Weights are in the run's checkpoints.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clipedu.interop.adoption import adopt
from clipedu.interop.hub import SMALL, settings_of
from clipedu.interop.sources import CONFIG, OPEN_CLIP_CONFIG, Source, find_source
from clipedu.models.dual_encoder import DualEncoder
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import atomic_folder, read_json, reported, write_json

RELEASED = "released"  # the folder in that of a run
_TEXT_MODEL = "text_model"  # the configuration of a text model of transformers inside a model of open_clip


def keep_released(model: DualEncoder, name: str, folder: Path) -> None:
    """Write the settings and the tokenizer of a released model.

    The model is built again from them, to see that nothing is missing.

    Args:
        model: as `adopt` returns it; its weights may be others by now, with adapters beside them.
        name: what it was adopted by.
        folder: of the run; the settings go into its folder "released".
    Raises:
        ClipeduError: a file cannot be written, or the model cannot be built again from what is kept.
    """
    source = find_source(name)
    place = folder / RELEASED
    with reported(place), atomic_folder(place) as partial:
        partial.mkdir(parents=True, exist_ok=True)
        if source.library == "open_clip":
            _keep_open_clip(source, model, partial)
        else:
            _copy_small(_folder_of(source), partial, without=OPEN_CLIP_CONFIG)
        _check(model, rebuild(partial, model.image_size), name)


def rebuild(folder: Path, image_size: int | None = None) -> DualEncoder:
    """Build a released model from what a run keeps of it.

    Its weights are random, and it has no logit scale: a run's loss has that.

    Args:
        folder: that `keep_released` has written.
        image_size: height and width of its images; None takes the released model's own.
    Raises:
        ClipeduError: it is missing or damaged.
    """
    with _located(folder) as place:
        model = adopt(place, "random", image_size=image_size)
    model.logit_scale = model.logit_bias = model.released_loss = None
    return model


def copy_released(run: Path, folder: Path) -> None:
    """Copy what one run keeps of a released model to another.

    Args:
        run: the folder of the run that has it.
        folder: of the other.
    Raises:
        ClipeduError: a file cannot be written.
    """
    with reported(folder / RELEASED), atomic_folder(folder / RELEASED) as partial:
        shutil.copytree(run / RELEASED, partial, dirs_exist_ok=True)


def released_sum(run: Path) -> str | None:
    """Return a hash of what a run keeps of a released model, or None.

    Args:
        run: the run's folder.
    """
    folder = run / RELEASED
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}/{path.stat().st_size}".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _keep_open_clip(source: Source, model: DualEncoder, folder: Path) -> None:
    import open_clip

    if source.where.startswith(("local-dir:", "hf-hub:")):
        before = _folder_of(source)
        _copy_small(before, folder, without=CONFIG)
        settings = read_json(before / OPEN_CLIP_CONFIG)
    else:
        settings = {"model_cfg": open_clip.get_model_config(source.where)}
        quick = any(type(module).__name__ == "QuickGELU" for module in model.modules())
        settings["model_cfg"]["quick_gelu"] = quick  # by the weights, whatever the name says
    mean, std = ((x.flatten() / 255).tolist() for x in (model.mean, model.std))
    resize = {"resize_mode": "squash" if model.resize == "squash" else "shortest"}
    settings["preprocess_cfg"] = settings.get("preprocess_cfg", {}) | {"mean": mean, "std": std} | resize
    tokenizer, text = getattr(model.tokenizer.library, "tokenizer", None), settings["model_cfg"].get("text_cfg", {})
    if tokenizer is not None:  # of transformers
        tokenizer.save_pretrained(folder)
        text.setdefault("hf_tokenizer_name", "here")  # open_clip looks into the folder where there is any
        (folder / CONFIG).unlink(missing_ok=True)
    if text.get("hf_model_name"):
        tower: Any = model.text_encoder
        tower.text.config.save_pretrained(folder / _TEXT_MODEL)
    write_json(folder / OPEN_CLIP_CONFIG, settings)


@contextlib.contextmanager
def _located(folder: Path) -> Iterator[Path]:
    """Yield a folder whose settings name the text model's configuration by where it is now."""
    text = folder / _TEXT_MODEL
    if not text.is_dir():
        yield folder
        return
    with tempfile.TemporaryDirectory() as other:
        shutil.copytree(folder, other, dirs_exist_ok=True)
        settings = read_json(folder / OPEN_CLIP_CONFIG)
        settings["model_cfg"]["text_cfg"]["hf_model_name"] = str(Path(other) / _TEXT_MODEL)
        (Path(other) / OPEN_CLIP_CONFIG).write_text(json.dumps(settings), encoding="utf-8")
        yield Path(other)


def _folder_of(source: Source) -> Path:
    where = source.where.partition(":")[2] if source.library == "open_clip" else source.where
    return settings_of(where) if source.on_hub else Path(where)


def _copy_small(before: Path, folder: Path, *, without: str) -> None:
    """Copy settings and vocabularies, without those of weights and of another library."""
    for pattern in SMALL:
        for path in before.glob(pattern):
            if path.name != without and not path.name.endswith(".index.json"):
                shutil.copyfile(path, folder / path.name)


def _check(model: DualEncoder, again: DualEncoder, name: str) -> None:
    """Check that a model built again is the same but for its weights."""

    def facts(one: DualEncoder) -> dict[str, Any]:
        return {
            "tokenizer": one.tokenizer.identity(),
            "image size": one.image_size,
            "mean and std": [round(x, 4) for x in (*one.mean.flatten().tolist(), *one.std.flatten().tolist())],
            "way to make images square": one.resize,
            "padding of texts": one.text_padding,
        }

    before, now = facts(model), facts(again)
    other = [what for what in before if before[what] != now[what]]
    if not other and _shapes(model) != _shapes(again):
        other = ["names and shapes of its tensors"]
    if other:
        raise ClipeduError(
            f"{name} cannot be kept in a run: built again from its settings, it has another {other[0]}. Save it in a folder of its own, "
            "by its library, and start from that"
        )


def _shapes(model: DualEncoder) -> dict[str, Any]:
    """Return the shapes of a model's tensors, without adapters."""
    tensors = model.state_dict().items()
    return {name.replace(".base_layer", ""): x.shape for name, x in tensors if ".lora_" not in name}
