"""What trackers have logged, read back with their own readers."""

import json
import os
import struct
import tempfile
from collections import Counter
from pathlib import Path

import pandas as pd

os.environ.setdefault("TRACKIO_DIR", tempfile.mkdtemp(prefix="trackio-"))  # it is read when trackio is imported

WORDS = ("layer", "part", "kind", "group", "law", "size")


def of_tensorboard(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value, as TensorBoard itself reads them; no step is there twice."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    found = {}
    for tag in read.Tags()["scalars"]:
        events = read.Scalars(tag)
        found[tag] = {event.step: event.value for event in events}
        assert len(found[tag]) == len(events), f"{tag} has a step twice"
    return found


def of_trackio(folder: Path) -> dict[str, dict[int, float]]:
    """The same of trackio's database."""
    from trackio.sqlite_storage import SQLiteStorage

    name = json.loads((folder / "trackers.json").read_text())["name"]
    return _by_name(SQLiteStorage.get_logs("clipedu", name))


def of_wandb(folder: Path) -> dict[str, dict[int, float]]:
    """The same of the files that W&B keeps until they are synced."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for data in _wandb_records(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                cells = {(item.key or ".".join(item.nested_key)): json.loads(item.value_json) for item in items}
                rows.append({"step": cells.pop("_step"), **cells})
    return _by_name(rows)


def _wandb_records(content: bytes):
    """Yield the records of a log as LevelDB writes them, after a head of seven bytes: blocks of 32 KiB, of parts of records."""
    at, record = 7, b""
    while at + 7 <= len(content):
        size, kind = struct.unpack("<HB", content[at + 4 : at + 7])  # after its checksum
        if (left := 32768 - at % 32768) < 7 or kind == 0:
            at += left
            continue
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or its last part
            yield record
            record = b""


def _by_name(rows: list[dict]) -> dict[str, dict[int, float]]:
    seen = Counter((name, row["step"]) for row in rows for name, value in row.items() if isinstance(value, float))
    assert max(seen.values()) == 1, f"{seen.most_common(1)} is there twice"
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, (int, float)) and "/" in name and not name.startswith("figures/"):
                found.setdefault(name, {})[row["step"]] = float(value)
    return found


def of_tables(run) -> dict[str, dict[int, float]]:
    """What trackers are to have, by the tables of a run and its scores."""
    found: dict[str, dict[int, float]] = {}

    def add(head: str, row: dict) -> None:
        for name, value in row.items():
            if name not in ("step", "weights", *WORDS) and pd.notna(value):
                found.setdefault(f"{head}/{name}", {})[int(row["step"])] = float(value)

    for row in run.history.to_dict("records"):
        add("train", row)
    for row in run.norms.to_dict("records"):
        add(f"norms/{row['part']}", row)
    for row in run.layers.to_dict("records"):
        add(f"layers/{row['layer']}", row)
    for row in run.validation.to_dict("records"):
        add("validation" if row["weights"] == "model" else "validation/averaged", row)
    if run.metrics:
        add("final", {"step": len(run.history), **run.metrics})
    return found


def assert_is_log_of(found: dict[str, dict[int, float]], run, *, double: bool = True) -> None:
    """Check that a log has the numbers of a run's tables, all of them and no other; in float32 unless `double`."""
    wanted = of_tables(run)
    assert found.keys() == wanted.keys(), found.keys() ^ wanted.keys()
    for name, values in wanted.items():
        exact = {
            step: value if double else float(pd.Series([value], dtype="float32")[0]) for step, value in values.items()
        }
        assert found[name] == exact, name
