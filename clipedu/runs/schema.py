"""What each file of a run must hold, and the readers that check it.

Each reader raises a `ClipeduError` that names the file and the field, what was found and what is expected. Fields that are
not named here may be there too: older and later versions keep others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import read_json
from clipedu.utils.schema import Anything, Items, Number, Object, Text, misfit, shown
from clipedu.utils.tables import read_table
from clipedu.utils.tensor_files import kind_of, read_tensors, size_of

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

STATUSES = ("finished", "running", "stopped", "failed")
SECONDS = Number(at_least=0, at_most=1e12)
COUNT = Number(at_least=1, at_most=1e12, whole=True)
PERCENT = Number(at_least=0, at_most=100)
MEASURE = Number(at_least=-1e30, at_most=1e30, optional=True)  # null: it cannot be computed of this set or model


@dataclass(frozen=True)
class Scores:
    """The scores of a run; those by rank come with the sizes of their sets."""

    expected: str = "an object"

    def misfit(self, value: Any, name: str) -> str | None:
        sizes = dict.fromkeys(("retrieval_images", "retrieval_captions", "zeroshot_images", "zeroshot_classes"), COUNT)
        found = value if isinstance(value, Mapping) else {}
        percent = [key for key in found if _PERCENT.fullmatch(_own(key))]
        needed = {
            size: COUNT
            for key in percent
            for size in sizes
            if size.startswith("zeroshot" if _own(key).startswith("top") else "retrieval")
            and _own(key)[:3] in ("tr@", "ir@", "top")
        }
        return Object(needed, {**sizes, **dict.fromkeys(percent, PERCENT)}, MEASURE).misfit(value, name)


@dataclass(frozen=True)
class Tensors:
    """A tensor of numbers of one type, with a given number of axes."""

    kind: str
    axes: int
    optional: bool = False

    @property
    def expected(self) -> str:
        return f"a tensor of {self.kind} with {self.axes} axes" + " or null" * self.optional

    def misfit(self, value: Any, name: str) -> str | None:
        if value is None and self.optional:
            return None
        if not hasattr(value, "dtype"):
            return f"field {name!r} is {shown(value)}, expected {self.expected}"
        if kind_of(value) != self.kind or value.ndim != self.axes:
            return f"field {name!r} is {kind_of(value)} {size_of(value)}, expected {self.expected}"
        return None


def _own(key: str) -> str:
    """Return the key of a score without its prefix, which says of which weights it is: "averaged/tr@1"."""
    return key.rpartition("/")[2]


_PERCENT = re.compile(r"(tr|ir)@[0-9]+|top[0-9]+|average|foil_\w+")
_SETTINGS = ("data", "image_encoder", "text_encoder", "embedding_dim", "loss", "geometry", "optimizer", "lr", "seed")

EXPERIMENT = Object(dict.fromkeys((*_SETTINGS, "batch_size", "epochs"), Anything()), others=Anything())
SCORED = Number(at_least=0, at_most=1e15, whole=True)
STATUS = Object({"status": Text(STATUSES)}, {"note": Text(), "seconds": SECONDS, "scored": SCORED}, Anything())
IDENTITY = Object(optional={"rows": COUNT, "image_size": COUNT}, others=Text())
PATHS = Object(optional={"folder": Text(), "given": Object(others=Text())}, others=Anything())
DATA = Items(
    Object(
        {
            "name": Text(),
            "split": Text(),
            "rows": Number(at_least=0, at_most=1e12, whole=True),
            "skipped": Items(Text()),
        },
        {
            "image_size": COUNT,
            "fingerprint": Text(),
            "identity": IDENTITY,
            "was": IDENTITY,
            "left_out": Items(Text()),
        },
        Anything(),
    )
)
CAPTIONS = Object({"captions": Items(Text())}, {"phrases": Items(Text())}, Anything())
TOKENS = Object({"names": Items(Text()), "extra": Number(at_least=0, whole=True), "grid": Items(COUNT, 2)})
BASELINE = Object({"name": Text()}, {"seconds": SECONDS, "tr@1": PERCENT, "ir@1": PERCENT}, Anything())
EARLIER = Items(Object({"epochs": COUNT, "step": SCORED, "metrics": Scores()}))
TRACKED = Object({"name": Text()}, {"sent": Object(others=Object(others=Number(at_least=0, at_most=1e15, whole=True)))})
BLENDED = Object(
    {"models": Items(Text()), "weights": Items(Number()), "statistics": Text(), "command": Text()},
    others=Anything(),
)
STATE = Object(
    {
        "step": Number(at_least=0, at_most=1e15, whole=True),
        "seconds": SECONDS,
        "data": Text(),
        "optimizer": Object(
            {"state": Object(others=Object()), "param_groups": Items(Object({"params": Items(Number(whole=True))}))}
        ),
        "loss": Object(),
        "random": Tensors("uint8", 1),
        "random_device": Tensors("uint8", 1, optional=True),
    },
    {
        "monitor": Object({"Lambda": Object(others=Number(optional=True))}),
        "identity": IDENTITY,
        "average": Object({"steps": Number(at_least=0, at_most=1e15, whole=True)}),
    },  # newer than others
)

BLEND = "blend.json"
AGAIN = "Score the run again: clipedu evaluate {folder}"


def read_status(folder: Path) -> dict[str, Any]:
    """Read status.json: "status", "note" and "seconds"; {} without one.

    Raises:
        ClipeduError: it is damaged.
    """
    remedy = "Remove it: the run then counts as one that was stopped, and can be resumed"
    return read_json(folder / "status.json", STATUS, remedy)


def read_environment(folder: Path) -> dict[str, Any]:
    """Read environment.json; {} without one.

    Raises:
        ClipeduError: it is damaged.
    """
    remedy = "Remove it: nothing is computed from it"
    return read_json(folder / "environment.json", Object(others=Anything()), remedy)


def read_metrics(folder: Path) -> dict[str, float]:
    """Read metrics.json; {} without one. What cannot be computed is nan.

    Raises:
        ClipeduError: it is damaged.
    """
    found = read_json(folder / "metrics.json", Scores(), AGAIN.format(folder=folder))
    return {key: float("nan") if value is None else value for key, value in found.items()}


def read_sets(folder: Path) -> list[dict[str, Any]]:
    """Read data.json: a description of each set; [] without one.

    Raises:
        ClipeduError: it is damaged.
    """
    return read_json(folder / "data.json", DATA, "Remove it to do without") or []


def read_baseline(folder: Path) -> dict[str, Any] | None:
    """Read baseline.json in a grid's folder; None without one.

    Raises:
        ClipeduError: it is damaged.
    """
    return read_json(folder / "baseline.json", BASELINE, "The grid computes it again") or None


def read_blend(folder: Path) -> dict[str, Any] | None:
    """Read blend.json: of which models a run is a blend.

    Returns:
        "models", "weights" (one number each), "statistics" (of batch norms: "recomputed", "interpolated" or "none"), and
        "command", which makes it again; None for a run that was trained.
    Raises:
        ClipeduError: it is damaged.
    """
    return read_json(folder / BLEND, BLENDED, "Make the blend again with: clipedu blend") or None


def read_frame(folder: Path, name: str) -> pandas.DataFrame:
    """Read the table "history", "norms", "layers" or "validation" of a run.

    It has no rows where nothing was measured yet, or nothing before the run failed.

    Raises:
        ClipeduError: it is damaged.
    """
    from clipedu.norms import COLUMNS, CONTRIBUTIONS

    required, words, key = {
        "history": (("step", "lr", "loss"), (), ("step",)),
        "norms": (("step", "part", "weight", "gradient", "update"), ("part",), ("step", "part")),
        "validation": (("step", "epoch", "weights", "average"), ("weights",), ("step", "weights")),
        "layers": ([c for c in COLUMNS if c != "law"], ("layer", "part", "kind", "group", "law"), ("step", "layer")),
    }[name]
    try:
        frame = read_table(folder / f"{name}.csv", required, words=words, counted=("step",), key=key, grows=True)
    except ClipeduError as error:
        raise ClipeduError(f"{error}. Remove it to do without these rows") from None
    except FileNotFoundError:
        import pandas as pd

        return pd.DataFrame(columns=list(COLUMNS if name == "layers" else required), dtype=float)
    if name == "layers" and len(frame):  # older versions did not measure all
        added = [column for column in ("law", *CONTRIBUTIONS) if column not in frame]
        frame = frame.reindex(columns=[*frame, *added])
    return frame


def read_embeddings(folder: Path, width: int) -> dict[str, Any] | None:
    """Read embeddings.safetensors and captions.json.

    Args:
        folder: of the run.
        width: D of the embeddings.
    Returns:
        as `clipedu.runs.run.Run.embeddings`; None where there are none.
    Raises:
        ClipeduError: they are damaged, or do not fit together.
    """
    if not os.path.lexists(path := folder / "embeddings.safetensors"):
        return None
    again = AGAIN.format(folder=folder)
    try:
        tensors = read_tensors(path)
    except ClipeduError as error:
        raise ClipeduError(f"{error}. {again}") from None
    words = _read_captions(folder, again)
    rows = len(words["captions"])
    sizes: dict[str, tuple[int | None, int]] = {"image": (rows, width), "text": (rows, width)}
    if "chain" in tensors or "phrase" in tensors or "phrases" in words:
        sizes |= {"phrase": (len(words.get("phrases", ())), width), "chain": (None, 6)}
    if fault := _embeddings_misfit(tensors, sizes):
        raise ClipeduError(f"{path} cannot be used with captions.json: {fault}. {again}")
    return {**tensors, **words}


def _read_captions(folder: Path, again: str) -> dict[str, list[str]]:
    """Read captions.json; older versions kept a list."""
    path = folder / "captions.json"
    if not os.path.lexists(path):
        raise ClipeduError(f"{path} cannot be read: no such file. {again}")
    words = read_json(path, _EitherForm(), again)
    return words if isinstance(words, dict) else {"captions": words}


@dataclass(frozen=True)
class _EitherForm:
    """Captions as an object, or as the list of older versions."""

    expected: str = "an object"

    def misfit(self, value: Any, name: str) -> str | None:
        return misfit(Items(Text()) if isinstance(value, list) else CAPTIONS, value)


def _embeddings_misfit(tensors: Mapping[str, Tensor], sizes: Mapping[str, tuple[int | None, int]]) -> str | None:
    """Return what is wrong with the kept tensors, None if nothing is.

    `sizes` gives rows (None: any) and columns of each.
    """
    for name, (rows, columns) in sizes.items():
        if rows == 0:
            return f"there are no {'phrases' if name == 'phrase' else 'captions'}"
        if name not in tensors:
            return f"the tensor {name!r} is missing"
        tensor = tensors[name]
        if name == "chain" and (kind_of(tensor) != "int64"):
            return f"the tensor {name!r} holds {kind_of(tensor)}, expected int64"
        if name != "chain" and not tensor.is_floating_point():
            return f"the tensor {name!r} holds {kind_of(tensor)}, expected float32"
        if tensor.ndim != 2 or tensor.shape[1] != columns or rows not in (None, len(tensor)):
            wanted = f"[{'N' if rows is None else rows}, {columns}]"
            return f"the tensor {name!r} is {size_of(tensor)}, expected {wanted}"
    if "chain" in sizes and len(chain := tensors["chain"]):
        phrases, low, high = sizes["phrase"][0], int(chain.min()), int(chain.max())
        if low < 0 or high >= (phrases or 0) or len(chain) > (sizes["image"][0] or 0):
            return f"the tensor 'chain' is {size_of(chain)} with numbers {low} to {high}, of {phrases} phrases"
    return None
