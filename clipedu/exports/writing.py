"""`export`: a model in the form of another library, with a model card."""

from __future__ import annotations

import filecmp
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from clipedu.exports.card import model_card
from clipedu.exports.hub import check_hub, push
from clipedu.exports.licences import licence_entries
from clipedu.exports.release import Release, open_release, told_in_one_line
from clipedu.exports.to_onnx import lines_onnx, write_onnx
from clipedu.exports.to_open_clip import CONFIG, lines_open_clip, settings_text, write_open_clip
from clipedu.exports.to_timm import lines_timm, write_timm
from clipedu.exports.to_transformers import lines_transformers, write_transformers
from clipedu.runs.folders import run_around
from clipedu.utils.errors import ClipeduError, unknown_name
from clipedu.utils.files import atomic_folder, reported, write_text

CARD = "README.md"
Write = Callable[[Release, Path, str], None]  # release, folder to write to, name it will have
Lines = Callable[[Release, str, bool], str]  # release, folder or repository, whether it is on the hub


@dataclass(frozen=True)
class Target:
    """A library to export to.

    Attributes:
        write: writes the files, loads them again and compares the embeddings.
        lines: returns code that loads them.
        elsewhere: {file: its text for another place}, of files that say where they are.
    """

    write: Write
    lines: Lines
    elsewhere: dict[str, Callable[[Release, str], str]] = field(default_factory=dict)


TARGETS = {
    "transformers": Target(write_transformers, lines_transformers),
    "open_clip": Target(write_open_clip, lines_open_clip, {CONFIG: settings_text}),
    "timm": Target(write_timm, lines_timm),
    "onnx": Target(write_onnx, lines_onnx),
}


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        folder: of the files.
        code: that loads them.
        size: of all files, bytes.
        page: of the model on the hub; None where it was not published.
    """

    folder: Path
    code: str
    size: int
    page: str | None = None


def export(
    model: str | os.PathLike,
    to: str,
    folder: str | os.PathLike | None = None,
    *,
    weights: str | os.PathLike | None = None,
    checkpoint: str = "last",
    averaged: bool = False,
    projection: bool = False,
    licence: str | None = None,
    push_to_hub: str | None = None,
    private: bool = False,
) -> Export:
    """Write a model in the form of another library, with a model card.

    What is written is loaded by that library and compared before the folder appears: its embeddings equal the model's to 1e-5 of
    the largest number.

    Args:
        model: a run's folder, or a released model, as `clipedu.adopt` takes it.
        to: "transformers", "open_clip", "timm" (the image tower alone) or "onnx".
        folder: to write to, not there or empty; None takes RUN/export-TO, or runs/export-MODEL-TO. With `push_to_hub` it may hold
            the same files already: they are published then.
        weights: of a released model, as of `clipedu.adopt`.
        checkpoint: of a run, "last" or "best".
        averaged: take the moving average of a run's weights.
        projection: for timm: put the projection on the tower, as its classifier.
        licence: of the weights, by the hub's name, such as "apache-2.0"; None says that it is not known.
        push_to_hub: "owner/name", to publish it, too.
        private: of a repository that is made.
    Raises:
        ClipeduError: no such model, a run that is not finished, a library that has no place for it or is not installed, a folder that
            is not empty, or a repository that cannot be written.
    """
    if to not in TARGETS:
        raise unknown_name("library", to, TARGETS)
    if projection and to != "timm":
        raise ClipeduError(f"the projection has no place of its own in --to {to}, which has it anyway: it is for timm")
    if private and push_to_hub is None:
        raise ClipeduError("--private has no effect without --push-to-hub OWNER/NAME")
    licence_entries(licence)
    given = os.fspath(model)
    place = Path(folder) if folder is not None else default_folder(given, to)
    again = push_to_hub is not None and (place / CARD).is_file()  # exported before; published perhaps not
    if not again:
        check_free(place)
    place = place.resolve() if place.is_dir() else place  # an empty folder is replaced, and a link to one is not
    if push_to_hub is not None:
        check_hub(push_to_hub, private=private)
    release = open_release(given, weights, checkpoint=checkpoint, averaged=averaged)
    target = TARGETS[to]
    write = partial(write_timm, projection=projection) if to == "timm" else target.write
    where = os.path.abspath(place)
    tower = "" if to != "timm" else _tower_words(release, projection)

    def card(where: str, *, hub: bool) -> str:
        code = target.lines(release, where, hub)
        code = code if hub else f"# run it in the folder that holds this one\n{code}"
        return model_card(release, to, code, licence, tower=tower)

    def fill(folder: Path) -> None:
        with told_in_one_line(release, to):
            write(release, folder, where)
        write_text(folder / CARD, card(place.name, hub=False))

    if again:
        with (
            reported(place),
            tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.", suffix=".partial") as other,
        ):
            fill(Path(other))
            _check_same(place, Path(other))
    else:
        with atomic_folder(place) as partial_folder:
            fill(partial_folder)
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    page = None
    if push_to_hub is not None:
        changed = {name: text(release, push_to_hub) for name, text in target.elsewhere.items()}
        changed[CARD] = card(push_to_hub, hub=True)
        try:
            page = push(place, push_to_hub, changed=changed, private=private)
        except ClipeduError as error:
            raise ClipeduError(f"{error}. The files are in {place}: the same command publishes them") from None
    return Export(place, target.lines(release, push_to_hub or where, push_to_hub is not None), size, page)


def default_folder(model: str, to: str) -> Path:
    """Return where an export is written unless told.

    Args:
        model: as it was given.
        to: name of the library.
    """
    if os.path.exists(os.path.join(model, "experiment.json")):
        return Path(model) / f"export-{to}"
    name = re.sub(r"[^\w.-]+", "_", model).strip("_")[:100]
    return Path("runs") / f"export-{name}-{to}"


def check_free(folder: Path) -> None:
    """Check that a folder can be written: it is not there, or empty.

    Raises:
        ClipeduError: it holds something, is no folder, is the current one, is among a run's own files, or cannot be written.
    """
    run = run_around(folder)
    if run is not None and not folder.resolve().relative_to(run).parts[0].startswith("export"):
        raise ClipeduError(
            f"{folder} is inside the run {run}, among its own files: give another --out, such as {run / 'export'}"
        )
    above = next(path for path in folder.resolve().parents if os.path.lexists(path))
    with reported(folder, "Give another --out"):
        tempfile.TemporaryFile(dir=above).close()
    if folder.is_dir() and not any(folder.iterdir()):
        if folder.resolve() == Path.cwd():
            raise ClipeduError(
                f"{folder} is the current folder, which cannot be replaced: give a new one in it as --out"
            )
        return
    if os.path.lexists(folder):
        what = "is not empty" if folder.is_dir() else "is no folder"
        raise ClipeduError(
            f"{folder} is there already and {what}: nothing is overwritten. Remove it, or give another --out"
        )


def _check_same(folder: Path, other: Path) -> None:
    """Check that two folders hold the same files.

    Raises:
        ClipeduError: they do not; names a file.
    """
    names = sorted({path.relative_to(top) for top in (folder, other) for path in top.rglob("*") if path.is_file()})
    for name in names:
        one, two = folder / name, other / name
        if not (one.is_file() and two.is_file() and filecmp.cmp(one, two, shallow=False)):
            raise ClipeduError(
                f"{folder} is there already, and its {name} is not what this command writes: nothing is overwritten or published. "
                "Remove the folder, or give another --out"
            )


def _tower_words(release: Release, projection: bool) -> str:
    """Say what comes out of the image tower."""
    if projection:
        return f"Out come embeddings of {release.dim} numbers, of any length: compare them by their cosine."
    return (
        f"Out come features of {release.model.widths['image']} numbers, before the projection to the {release.dim} numbers in which "
        "images and texts are compared."
    )
