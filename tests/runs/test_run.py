"""A run's folder: what is written is read back, whole, whenever the run was killed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch

from clipedu.cli.parser import build_parser
from clipedu.config.command_line import experiment_changes
from clipedu.config.experiment import Experiment
from clipedu.config.presets import PRESETS
from clipedu.norms import COLUMNS
from clipedu.runs.folders import load_run
from clipedu.runs.run import Run
from tests.helpers.errors import message_of
from tests.runs.example_run import EX, everything, frames

TABLES = ("history", "norms", "layers")


def write(run: Run, *tables: pd.DataFrame) -> None:
    for name, table in zip(TABLES, tables, strict=True):
        run.append_rows(name, table)


def test_everything_is_read_back(run):
    run.seconds = 12.345
    run.save_status("finished", "well, with ü")
    run.save_metrics({"modality_gap": 12.5, "retrieval_images": 30})
    history, norms, layers = frames()
    history = history.assign(loss=[0.1234567, 1e-9], **{"loss/cyclic": [1.0, 2.0]})
    write(run, history, norms, layers)
    image, text = torch.randn(4, 16), torch.randn(4, 8)
    run.save_embeddings({"image": image[:, ::2], "text": text}, {"captions": ["ein Hündchen", "b", "c", "d"]})
    again = load_run(run.folder)
    assert (again.status, again.note, again.seconds) == ("finished", "well, with ü", 12.35)
    assert again.metrics == {"modality_gap": 12.5, "retrieval_images": 30}
    pd.testing.assert_frame_equal(again.history, history, check_dtype=False)
    pd.testing.assert_frame_equal(again.norms, norms)
    pd.testing.assert_frame_equal(again.layers[list(COLUMNS)], layers, check_dtype=False)
    assert again.layers["contribution"].isna().all()  # older versions did not measure them
    pd.testing.assert_frame_equal(run.history, again.history)
    kept = again.embeddings()
    assert torch.equal(kept["image"], image[:, ::2]) and torch.equal(kept["text"], text)
    assert kept["captions"] == ["ein Hündchen", "b", "c", "d"]
    assert not [name for name in everything(run.folder) if "partial" in name]


def test_rows_in_parts_are_the_same_file(run):
    """So that a run with many checkpoints, or one that goes on, writes what another does."""
    history, norms, layers = frames(50)
    history["loss"] = torch.rand(50).double().numpy() ** 20
    write(run, history, norms, layers)
    first = {name: (run.folder / f"{name}.csv").read_bytes() for name in TABLES}
    run.cut_rows(20)
    assert [len(getattr(run, name)) for name in TABLES] == [20, 20, 20]
    for start, end in ((20, 21), (21, 21), (21, 50)):
        write(run, *(frame[start:end] for frame in (history, norms, layers)))
    assert {name: (run.folder / f"{name}.csv").read_bytes() for name in TABLES} == first
    pd.testing.assert_frame_equal(run.history, load_run(run.folder).history)


def test_a_run_that_failed_in_its_first_step_can_be_read(run):
    write(run, *[pd.DataFrame([])] * 3)
    again = load_run(run.folder)
    assert len(again.history) == len(again.norms) == 0 and "step" in again.history


def test_a_run_of_an_older_version_has_layers_without_rows(run):
    write(run, *frames())
    (run.folder / "layers.csv").unlink()
    assert len(load_run(run.folder).layers) == 0 and set(load_run(run.folder).layers.columns) == set(COLUMNS)


def test_the_best_step_is_that_of_the_weights_themselves(run):
    assert run.best_step is None
    rows = [(4, "model", 10.0), (4, "averaged", 99.0), (8, "model", 20.0), (12, "model", 20.0), (16, "model", None)]
    table = pd.DataFrame([{"step": s, "epoch": s / 4, "weights": w, "average": a} for s, w, a in rows])
    run.append_rows("validation", table)
    assert run.best_step == 8 and load_run(run.folder).best_step == 8
    run.cut_rows(4)
    assert run.best_step == 4 and len(run.validation) == 2
    assert "has no best checkpoint: it is kept where" in message_of(run.checkpoint, "best")
    assert "unknown checkpoint 'first'" in message_of(run.weights, which="first").lower()


def test_a_damaged_table_is_named(run):
    (run.folder / "history.csv").write_bytes(b'a,b\n1,2\n1,2,3,4\n"')
    assert "history.csv cannot be read" in message_of(lambda: load_run(run.folder).history)


# the command


@pytest.mark.parametrize(
    "experiment",
    [
        *map(Experiment.preset, PRESETS),
        EX,
        Experiment(data="a folder/it's;$HOME", eval_data='quo"ted', train_size=None, clip_grad=1.5, image_frozen=True),
        Experiment(temperature=None, lr=1 / 3, warmup=0.0, schedule="constant", seed=2**63 - 1),
        Experiment(
            optimizer_options={"betas": (0.9, 0.98), "eps": 1e-6, "foreach": None, "fused": False},
            image_options={
                "pad_type": "same",
                "looks": "12",
                "true": "True",
                "null": "none",
                "a b": "c = d",
                "nested": {"x": [1]},
            },
            loss_options={"empty": "", "minus": -1, "quoted": '"q"'},
        ),
    ],
    ids=lambda experiment: f"{experiment.data}-{experiment.loss}",
)
def test_the_command_repeats_the_run(experiment):
    words = shlex.split(Run(Path("x"), experiment).command)
    assert words[0] == "clipedu"
    given = build_parser().parse_args(words[1:])
    assert Experiment.preset(given.preset or "laptop", **experiment_changes(given)) == experiment


def test_the_command_is_short():
    assert Run(Path("x"), Experiment()).command == "clipedu train"
    experiment = Experiment(loss="sogclr", loss_options={"gamma": 0.5}, image_frozen=True, clip_grad=None)
    assert (
        Run(Path("x"), experiment).command == "clipedu train --image-frozen true --loss sogclr --loss-options gamma=0.5"
    )


@pytest.mark.parametrize("name", ["embeddings.safetensors", "captions.json"])
def test_damaged_embeddings(run, name):
    run.save_embeddings({"image": torch.zeros(2, 8), "text": torch.zeros(2, 8)}, {"captions": ["a", "b"]})
    (run.folder / name).write_text("[")
    message = message_of(run.embeddings)
    assert f"run/{name} cannot be read" in message and f"Score the run again: clipedu evaluate {run.folder}" in message
