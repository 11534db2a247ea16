"""The library that a released model comes from.

    open_clip:ViT-B-32        a name of open_clip, with its weights
    hf:owner/name             a repository of the Hugging Face Hub
    folder, file              on this machine

A folder, and a repository of the hub, is found by what it contains.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clipedu.interop.hub import settings_of
from clipedu.models.state_dicts import TORCH_SUFFIXES, read_state
from clipedu.utils.errors import ClipeduError, quoted
from clipedu.utils.files import read_json

FAMILIES = ("clip", "siglip", "siglip2", "vision-text-dual-encoder")  # model types of transformers that are taken
CONFIG, OPEN_CLIP_CONFIG, RUN = "config.json", "open_clip_config.json", "experiment.json"
PREFIXES = ("open_clip:", "hf:")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json")
_POINTER = b"version https://git-lfs"
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
FORMS = "open_clip:NAME, hf:OWNER/NAME, or a folder or file on this machine"


@dataclass(frozen=True)
class Source:
    """A model that was found.

    Attributes:
        library: "open_clip" or "transformers".
        where: what the library is asked for: a name of open_clip ("local-dir:" and "hf-hub:" before a folder and a
            repository, as it has it), or a folder or repository for transformers.
        name: as it was asked for, for messages.
        weights: a file that was given in place of a folder; None otherwise.
    """

    library: str
    where: str
    name: str
    weights: Path | None = None

    @property
    def on_hub(self) -> bool:
        """Whether it is a repository of the hub."""
        return self.name.startswith("hf:")


def find_source(given: str | os.PathLike) -> Source:
    """Find the library of a model.

    Args:
        given: a name with its library before it, or a path.
    Raises:
        ClipeduError: it is none of these, or a folder, repository or file without a model in it.
    """
    text = str(given)
    prefix, _, rest = text.partition(":")
    if not text.strip():
        raise ClipeduError(f"an empty name is no model. Allowed: {FORMS}")
    if isinstance(given, str) and text.startswith(PREFIXES):
        if not rest.strip():
            raise ClipeduError(f"{quoted(text)} names no model. Allowed: {FORMS}")
        if prefix == "open_clip":
            return Source("open_clip", rest, text)
        library = library_of(settings_of(rest), text, downloaded=False)
        return Source(library, f"hf-hub:{rest}" if library == "open_clip" else rest, text)
    path = Path(text).expanduser()
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError):  # a name that is too long, or with a NUL
        is_folder = is_file = False
    if is_folder:
        return _of_folder(path, text)
    if is_file:
        return _of_file(path, text)
    raise ClipeduError(f"unknown model {quoted(text)}: no such folder or file.{meant(text)} Allowed: {FORMS}")


def is_released(name: str | os.PathLike) -> bool:
    """Return whether a name is that of a released model, and of no run.

    It has a library before it, or is a folder or file of one.
    """
    if os.fspath(name).startswith(PREFIXES):
        return True
    path = Path(name).expanduser()
    if path.is_dir():
        here = {file.name for file in path.iterdir()}
        return RUN not in here and bool({CONFIG, OPEN_CLIP_CONFIG} & here)
    return path.suffix in SUFFIXES and path.is_file()


def library_of(folder: Path, name: str, *, downloaded: bool = True) -> str:
    """Return whose model a folder holds, "open_clip" or "transformers".

    Args:
        folder: with its settings.
        name: of the model, for messages.
        downloaded: whether its weights are there, too. Of a repository that has settings of both libraries, as laion's
            have, transformers' are taken.
    Raises:
        ClipeduError: it holds none.
    """
    here = (
        {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    )  # none of a repository without settings
    if RUN in here:
        raise ClipeduError(f"{name} is a run of clipedu: its model is clipedu.load_run({str(folder)!r}).model()")
    kind = read_json(folder / CONFIG).get("model_type") if CONFIG in here else None
    both = OPEN_CLIP_CONFIG in here and downloaded and not here & set(_WEIGHTS)
    if kind in FAMILIES and not both:
        return "transformers"
    if OPEN_CLIP_CONFIG in here:
        return "open_clip"
    if kind is not None:
        raise ClipeduError(
            f"{name} is a model of type {quoted(kind)}, and no dual encoder of images and texts that is taken here. Those of "
            f"transformers: {', '.join(FAMILIES)}"
        )
    some = ", ".join(sorted(here)[:5]) or "nothing"
    raise ClipeduError(
        f"{name} holds no model: it has neither transformers' {CONFIG} (with a model_type) nor open_clip's {OPEN_CLIP_CONFIG}, "
        f"but {some}"
    )


def _check_pointers(files: Iterable[Path]) -> None:
    """Refuse files that Git LFS has put in place of weights: a few lines of text."""
    for file in files:
        with file.open("rb") as opened:
            if opened.read(len(_POINTER)) == _POINTER:
                raise ClipeduError(
                    f"{file} is no file of weights but Git LFS's pointer to it: fetch it with git lfs pull"
                )


def _of_folder(folder: Path, name: str) -> Source:
    _check_pointers(sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file()))
    library = library_of(folder, name)
    return Source(library, f"local-dir:{folder}" if library == "open_clip" else str(folder), name)


def _of_file(file: Path, name: str) -> Source:
    """Find the model of a file of weights: the settings are in its folder."""
    if {CONFIG, OPEN_CLIP_CONFIG} & {path.name for path in file.parent.iterdir()}:
        found = _of_folder(file.parent, name)
        return Source(found.library, found.where, name, weights=file)
    if file.suffix not in SUFFIXES:
        raise ClipeduError(
            f"{name} is no file of weights: its name must end in .safetensors or {', '.join(TORCH_SUFFIXES)}"
        )
    _check_pointers([file])
    names = read_state(file)
    whose = _whose(names)
    if whose is None:
        raise ClipeduError(f"{name} holds no CLIP that is known here: its first tensor is {quoted(next(iter(names)))}")
    how = {
        "open_clip": f"the model's name does not stand in it: give open_clip:NAME as the model, and {name} as its weights (--weights)",
        "transformers": f"its {CONFIG} is not beside it: put both into one folder, with the tokenizer",
    }[whose]
    raise ClipeduError(f"{name} holds weights of {whose}, and {how}")


def _whose(names: Iterable[str]) -> str | None:
    starts = {name.removeprefix("module.").partition(".")[0] for name in names}
    if "visual" in starts:
        return "open_clip"
    return "transformers" if {"vision_model", "text_model"} <= starts else None


def meant(text: str) -> str:
    """Return " Did you mean ...?" for an unknown name, or nothing."""
    prefix, colon, rest = text.partition(":")
    near = difflib.get_close_matches(prefix.lower(), ["open_clip", "openclip", "hf", "hf-hub", "huggingface"], n=1)
    if colon and near:
        return f" Did you mean '{'hf' if near[0].startswith('h') else 'open_clip'}:{rest}'?"
    try:
        import open_clip

        known = open_clip.list_models()
    except ImportError:
        known = []
    if found := difflib.get_close_matches(text, known, n=1, cutoff=0.8):
        return f" Did you mean 'open_clip:{found[0]}'?"
    above = Path(text).expanduser().parent
    if not colon and (above.is_dir() or above.name == "runs") and len(Path(text).parts) > 1:  # a path here
        beside = [path.name for path in above.iterdir() if path.is_dir()] if above.is_dir() else []
        near = difflib.get_close_matches(Path(text).name, beside, n=1)
        return f" Did you mean {str(above / near[0])!r}?" if near else ""
    if not colon and text.count("/") == 1 and not text.startswith((".", "/", "~")):
        return f" Did you mean 'hf:{text}'?"
    return ""
