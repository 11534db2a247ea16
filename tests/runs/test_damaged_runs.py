"""Damaged run folders: whatever a file holds, reading the run ends in a value or in one line that names the file.

One run is made, then its files are doctored one by one: each is missing, empty, cut, of other bytes, of other JSON, a folder,
another run's; each field has another type, each number is not finite or huge, each tensor is gone or of another size.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from clipedu.cli.parser import main
from clipedu.evaluation.embedding_space import kept_space
from clipedu.runs.folders import load_run, readable_runs
from clipedu.runs.token_files import kept_tokens
from clipedu.utils.errors import ClipeduError
from tests.helpers.errors import message_of

pytestmark = pytest.mark.xdist_group("damaged runs")  # what is costly is made once

JSON = ("experiment", "status", "metrics", "environment", "data", "captions", "tokens")
TABLES = ("history", "norms", "layers")
TENSORS = ("embeddings.safetensors", "tokens.safetensors", "checkpoint/model.safetensors")
GONE = object()
VALUES = (None, [], {}, [None], "x", -1, 1e308, float("nan"), 10**400, "\ud800", GONE)
CONTENTS = (b"", b"\xff\xfe\x00", b"null", b"[]", b"{}", b"[{}]", b'"x"', b"1e999", b"NaN", b"[" * 100_000, b"\0" * 99)


@pytest.fixture(scope="module")
def whole(quick, tmp_path_factory) -> Path:
    """A finished run with tokens, its checkpoint in a folder of a fixed name."""
    from clipedu import fit

    experiment = quick.replace(
        image_encoder="vit_nano_patch4_32", train_size=32, batch_size=16, epochs=1, norms_every=1
    )
    run = fit(experiment, tmp_path_factory.mktemp("whole") / "run", progress=False, report=False)
    (run.checkpoint() / "checkpoint.json").unlink()  # without sums, as older versions left it: its form is checked
    run.checkpoint().rename(run.folder / "checkpoint" / "step-1")
    return run.folder


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / "run")


def place(folder: Path, name: str) -> Path:
    return folder / name.replace("checkpoint/", "checkpoint/step-1/")


def contents(folder: Path, name: str) -> Iterator[bytes]:
    """Other contents of a file: of no kind, cut, and with one field or tensor changed."""
    path = place(folder, name)
    yield from CONTENTS
    yield path.read_bytes()[: path.stat().st_size // 2]
    if name.endswith(".json"):
        value = json.loads(path.read_text())
        inside = value if isinstance(value, dict) else value[0]
        for key in list(inside):
            for other in VALUES:
                changed = {k: v for k, v in inside.items() if k != key} | ({} if other is GONE else {key: other})
                yield json.dumps(changed if isinstance(value, dict) else [changed]).encode()
    elif name.endswith(".csv"):
        text = path.read_text()
        head, first, *_ = text.splitlines()
        yield from (text.replace(",", ";").encode(), f"{text}1,2\n".encode(), f'{text}"'.encode(), f"{head}\n".encode())
        for column in range(len(head.split(","))):
            cells = first.split(",")
            for other in ("x", "", "1e308", "-3"):
                yield f"{head}\n{','.join([*cells[:column], other, *cells[column + 1 :]])}\n".encode()
            yield "\n".join(
                ",".join(v for n, v in enumerate(row.split(",")) if n != column) for row in (head, first)
            ).encode()
    elif name.endswith(".safetensors"):
        tensors = copied(path)
        for key, tensor in list(tensors.items())[:: 1 if len(tensors) < 9 else 20]:
            others = (
                None,
                tensor[:-1],
                tensor.flatten(),
                tensor[:0],
                tensor.double(),
                tensor.int(),
                -tensor,
                tensor + 10**6,
            )
            for other in others:
                changed = {k: v for k, v in tensors.items() if k != key} | ({} if other is None else {key: other})
                save_file({k: v.contiguous() for k, v in changed.items()}, path)
                yield path.read_bytes()
        save_file({**tensors, "more": torch.ones(1)}, path)
        yield path.read_bytes()


def copied(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors in a file, not mapped into memory, so that the file can be overwritten."""
    return {key: tensor.clone() for key, tensor in load_file(path).items()}


def read_everything(folder: Path, name: str = "") -> list[str]:
    """Read all that a run keeps, but the model; return the errors.

    With the name of a table that one alone is read, since others take as long again.
    """
    try:
        run = load_run(folder)
    except ClipeduError as error:
        return [str(error)]
    readers: list[Callable[[], object]] = [
        *(lambda name=name: getattr(run, name) for name in TABLES),
        *(run.embeddings, run.sets, run.weights, run.geometry, lambda: run.training_state("cpu")),
        *(lambda: run.command, lambda: kept_tokens(folder), lambda: kept_space(run).root),
    ]
    errors = []
    if name.endswith(".csv"):
        readers = [lambda: getattr(run, name.removesuffix(".csv"))]
    elif name in ("status.json", "metrics.json", "environment.json"):
        readers = []  # read already
    elif name == "data.json":
        readers = [run.sets]
    for read in readers:
        try:
            read()
        except ClipeduError as error:
            errors.append(str(error))
    return errors


@pytest.mark.parametrize("name", [*(f"{n}.json" for n in JSON), *(f"{n}.csv" for n in TABLES), *TENSORS])
def test_a_damaged_file_is_read_or_named(copy, name):
    path, refused = place(copy, name), 0
    assert read_everything(copy) == []
    for content in list(contents(copy, name)):
        path.write_bytes(content)
        for message in read_everything(copy, name):
            refused += 1
            named = (
                path.name in message or path.name == "captions.json" or "no embeddings that could be used" in message
            )
            assert named and "\n" not in message and len(message) < 700, message
    assert refused > 5, "hardly anything was refused"
    path.unlink()
    read_everything(copy)
    path.mkdir()
    assert any("it is a folder" in message for message in read_everything(copy))


STATES = {
    "step": [None, "x", -1, 1e308, float("nan")],
    "seconds": [None, "x", float("inf")],
    "data": [None, 3],
    "optimizer": [None, [], {}, {"state": [], "param_groups": []}, {"state": {0: 1}, "param_groups": []}],
    "loss": [None, [1]],
    "random": [None, torch.zeros(3), torch.zeros(2, 2, dtype=torch.uint8)],
    "random_device": ["x", torch.zeros(3)],
    "monitor": [None, {}, {"Lambda": {"a": "x"}}],
}


def test_a_damaged_state_is_named(copy):
    path = copy / "checkpoint" / "step-1" / "state.pt"
    state = torch.load(path, weights_only=True)
    for key, values in STATES.items():
        for value in [*values, GONE]:
            changed = {k: v for k, v in state.items() if k != key} | ({} if value is GONE else {key: value})
            torch.save(changed, path)
            if (key, value) != ("monitor", GONE):  # older versions kept none
                message = message_of(load_run(copy).training_state, "cpu")
                assert message.startswith(f"{path} cannot be used: ") and f"'{key}" in message
    for other in (None, [], torch.ones(2)):
        torch.save(other, path)
        assert f"{path} cannot be used: the whole is" in message_of(load_run(copy).training_state, "cpu")
    stream = io.BytesIO()
    torch.save({"step": Path("x")}, stream)
    path.write_bytes(stream.getvalue())
    message = message_of(load_run(copy).training_state, "cpu")
    assert "never loaded" in message and "weights_only" not in message


def test_weights_of_another_model_are_named(copy):
    path = copy / "checkpoint" / "step-1" / "model.safetensors"
    tensors = copied(path)
    for changed, fault in (
        ({**tensors, "more": torch.ones(1)}, "the tensor 'more' is not expected"),
        (
            {k: v for k, v in tensors.items() if k != "image_projection.weight"},
            "the tensor 'image_projection.weight' is missing",
        ),
        (
            {**tensors, "image_projection.weight": torch.ones(3)},
            "the tensor 'image_projection.weight' is [3], expected [16, ",
        ),
    ):
        save_file(changed, path)
        assert f"{path} does not fit its experiment: {fault}" in message_of(load_run(copy).model)


def test_a_report_leaves_out_the_damaged_runs_and_says_so(finished, tmp_path, capsys):
    for name in ("good", "better", "bad-metrics", "bad-history", "bad-status"):
        shutil.copytree(finished.folder, tmp_path / "runs" / name)
    (tmp_path / "runs" / "bad-metrics" / "metrics.json").write_text('{"average": "high"}')
    (tmp_path / "runs" / "bad-history" / "history.csv").write_text("step,lr,loss\n0,0.1,low\n")
    (tmp_path / "runs" / "bad-status" / "status.json").write_text("[")
    runs, left_out = readable_runs([tmp_path / "runs"])
    assert [run.name for run in runs] == ["better", "good"]
    assert [line.partition(":")[0] for line in left_out] == ["bad-history", "bad-metrics", "bad-status"]
    assert main(["report", str(tmp_path / "runs")]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("2 runs, 3 left out. Report: ") and shown.err.count("left out: bad-") == 3
    page = (tmp_path / "runs" / "report.html").read_text()
    assert "Left out, because they cannot be read or were not done:" in page
    assert "field &#x27;average&#x27; is &#x27;high&#x27;" in page and "column &#x27;loss&#x27;, line 2" in page
    assert main(["report", str(tmp_path / "runs" / "bad-status")]) == 2
    assert "status.json cannot be read: it is not JSON" in capsys.readouterr().err
    with pytest.raises(ClipeduError, match="experiment.json. Runs here|has no experiment.json"):
        readable_runs([tmp_path / "runs" / "good", tmp_path / "runs" / "good" / "plots"])


def test_damaged_scores_can_be_made_again(finished, tmp_path):
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    (folder / "metrics.json").write_text("{")
    assert "clipedu evaluate" in message_of(load_run, folder)
    assert load_run(folder, scores=False).metrics == {}
