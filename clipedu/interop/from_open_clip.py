"""Models of open_clip, found and loaded.

open_clip is asked for a model whose text tower is a module of its own (`CustomTextCLIP`, `CoCa`), which computes the same.

Weights decide the activation: those that were trained with QuickGELU, as OpenAI's, get it, whatever the name of the model says.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from clipedu.interop.hub import from_model_hub, told
from clipedu.interop.open_clip_parts import quiet_open_clip, take_apart
from clipedu.interop.parts import Parts
from clipedu.interop.sources import OPEN_CLIP_CONFIG, Source
from clipedu.utils.errors import ClipeduError, quoted, without_trace
from clipedu.utils.importing import importing

log = logging.getLogger("clipedu")
_SHAPES = re.compile(r"size mismatch for (\S+): .*?Size\((\[.*?\])\).*?Size\((\[.*?\])\)")  # in torch's own error
SHOWN = 8  # tags at most in a message
_REMEDY = "take another file, or save the model again"


@importing()
def read_open_clip(
    source: Source, weights: str | None, seed: int, *, tokenizer: Any = None, image_size: int | None = None
) -> Parts:
    """Load a model of open_clip and take it apart.

    Args:
        source: a name of open_clip, or a folder or repository in its form.
        weights: a pretrained tag, the path of a file, "random", or None for the only ones that there are.
        seed: of random weights.
        tokenizer: of open_clip; None takes the model's own.
        image_size: height and width of the images; None takes the model's own.
    Raises:
        ClipeduError: open_clip is not installed, an unknown name or tag, weights that are missing or do not fit.
    """
    library = _installed(source)
    if source.where.startswith(("local-dir:", "hf-hub:")):
        tag, file = None, None if weights in (None, "random") else _file(source, weights)
        random = weights is not None
    else:
        tag, file = _tag_or_file(library, source, weights)
        random = tag is None
    settings = {} if tag is None else _activation(library, source, tag)
    with _hub(library, source, tag), quiet_open_clip(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = _create(library, source, tag, load=not random, **settings)
        reader = library.get_tokenizer(source.where) if tokenizer is None else tokenizer
    if file is not None:
        with (
            told(source.name, f"weights {quoted(str(file))}", _REMEDY),
            _misfit(f"weights {quoted(str(file))}", source),
            quiet_open_clip(),
        ):
            library.load_checkpoint(model, str(file))
    return take_apart(model, reader, source.name, image_size)


def _installed(source: Source) -> ModuleType:
    try:
        import open_clip
    except ImportError:
        raise ClipeduError(
            f"{source.name} is a model of open_clip, which is not installed: pip install 'clipedu[open_clip]'"
        ) from None
    return open_clip


def _tag_or_file(library: Any, source: Source, weights: str | None) -> tuple[str | None, Path | None]:
    """Return the pretrained tag or the file that is meant; neither is random weights."""
    name = source.where
    if name not in (known := library.list_models()):
        near = difflib.get_close_matches(name, known, n=6, cutoff=0.5)
        hint = f"Did you mean {', '.join(map(repr, near))}? " if near else ""
        raise ClipeduError(
            f"open_clip has no model {quoted(name)}. {hint}All {len(known)}: open_clip.list_models(); a repository of the hub is "
            "hf:OWNER/NAME"
        )
    tags = library.list_pretrained_tags_by_model(name)
    if weights is None:
        if len(tags) == 1:
            return tags[0], None
        raise ClipeduError(f"{source.name} needs weights: {_listed(name, tags)}the path of a file, or random")
    if weights == "random" or library.get_pretrained_cfg(name, weights):
        return (None if weights == "random" else weights), None
    if "/" in weights or "." in weights or Path(weights).expanduser().exists():
        return None, _file(source, weights)
    near = difflib.get_close_matches(weights, tags, n=3)
    hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise ClipeduError(
        f"unknown weights of {source.name}: {quoted(weights)}. {hint}Allowed: {_listed(name, tags)}the path of a file, or random"
    )


def _listed(name: str, tags: Sequence[str]) -> str:
    """Return the pretrained tags of a model in words; of many the first, and how to see all."""
    if not tags:
        return ""
    if len(tags) <= SHOWN:
        return f"one of its pretrained tags ({', '.join(tags)}), "
    how = f"open_clip.list_pretrained_tags_by_model({name!r})"
    return f"one of its {len(tags)} pretrained tags ({', '.join(tags[:SHOWN])}, ...; all: {how}), "


def _file(source: Source, weights: str | None) -> Path:
    path = Path(weights or "").expanduser()
    if not path.is_file():
        raise ClipeduError(f"weights {quoted(weights)} for {source.name}: no such file")
    return path


def _activation(library: Any, source: Source, tag: str) -> dict[str, Any]:
    """Return the setting of open_clip for the activation that weights were trained with."""
    config, trained = library.get_model_config(source.where), library.get_pretrained_cfg(source.where, tag)
    quick = bool(trained.get("quick_gelu", False))
    if quick == bool(config.get("quick_gelu", False)):
        return {}
    log.info("%s is built with %s, as weights %r were trained", source.name, "QuickGELU" if quick else "GELU", tag)
    return {"quick_gelu": quick}


def _create(library: Any, source: Source, tag: str | None, *, load: bool, **settings: Any) -> Any:
    """Return open_clip's model in float32, with its weights or with random ones."""
    settings |= {"pretrained_text": False, "force_custom_text": True}
    with _misfit("its own weights" if tag is None else f"weights {tag!r}", source):
        if load:
            return library.create_model(source.where, pretrained=tag, require_pretrained=True, **settings)
        return library.create_model(source.where, load_weights=False, **settings)


@contextmanager
def _misfit(weights: str, source: Source) -> Iterator[None]:
    """Say which is the first tensor that does not fit; other errors pass through."""
    try:
        yield
    except RuntimeError as error:
        lines = [line.strip() for line in without_trace(error).splitlines()]
        shapes = [found for line in lines if (found := _SHAPES.match(line))]
        names = [line[:160] for line in lines if line.startswith(("Missing", "Unexpected"))]
        if not shapes and not names:
            raise
        if shapes:
            name, theirs, ours = shapes[0].groups()
            what = (
                f"{len(shapes)} tensors have another shape (first: {name}: {theirs} in the file, {ours} in the model)"
            )
            names.insert(0, what)
        raise ClipeduError(f"{weights} do not fit {source.name}: {'; '.join(names)}") from None


def _hub(library: Any, source: Source, tag: str | None) -> Any:
    """Return a context in which errors are one line, of the hub's too where it is needed."""
    if source.where.startswith("hf-hub:"):
        return from_model_hub(source.where.removeprefix("hf-hub:"))
    if tag is not None:
        place = library.get_pretrained_cfg(source.where, tag)
        repository = "/".join(place.get("hf_hub", "").split("/")[:2]) or place.get("url", "")
        return from_model_hub(repository, f"weights {tag!r} of {source.name}")
    with told(source.name, f"its {OPEN_CLIP_CONFIG}", _REMEDY):
        text = (library.get_model_config(source.where) or {}).get("text_cfg") or {}
    outside = ("hf_model_name",) if source.where.startswith("local-dir:") else ("hf_model_name", "hf_tokenizer_name")
    if repository := next((text[key] for key in outside if text.get(key)), None):
        return from_model_hub(repository, f"the text model of {source.name}")
    return told(source.name, "its model", _REMEDY)
