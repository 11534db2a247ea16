"""A run's folder: what is written is read back, whole, whenever the run was killed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch

import clipedu
from clipedu.cli.parser import build_parser
from clipedu.config.command_line import experiment_changes
from clipedu.config.experiment import Experiment
from clipedu.config.presets import PRESETS
from clipedu.norms import COLUMNS
from clipedu.runs.run import Run, find_runs, load_run, new_run, new_run_folder
from clipedu.utils import environment as environment_room
from clipedu.utils.environment import environment
from clipedu.utils.files import read_json, write_json, write_text
from tests.helpers.errors import message_of
from tests.runs.folders import EX, state_of
from tests.runs.test_checkpoint import Killed


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# the folder


def test_a_new_run_says_what_it_is(run):
    assert set(everything(run.folder)) == {"experiment.json", "environment.json", "status.json"}
    again = load_run(run.folder)
    assert (again.experiment, again.environment, again.status, again.note, again.seconds) == (
        EX,
        run.environment,
        "running",
        "",
        0,
    )
    assert again.metrics == {} and len(again.history) == len(again.norms) == 0 and "step" in again.history
    assert again.embeddings() is None and again.name == "run"


def test_everything_is_read_back(run):
    run.seconds = 12.345
    run.save_status("finished", "well, with ü")
    run.save_metrics({"tr@1": 12.5, "retrieval_images": 30})
    history = pd.DataFrame({"step": [0, 1], "loss": [0.1234567, 1e-9], "loss/cyclic": [1.0, 2.0]})
    norms = pd.DataFrame({"step": [0, 0], "part": ["all", "text"], "weight": [1.5, 2.5]})
    layers = pd.DataFrame({"step": [0], "layer": ["a = b"], "cosine": [-0.25], "Lambda": [1e-3]})
    run.save_frames(history, norms, layers)
    image, text = torch.randn(4, 8), torch.randn(4, 8)
    run.save_embeddings({"image": image[:, ::2], "text": text}, {"captions": ["ein Hündchen", "b", "c", "d"]})
    again = load_run(run.folder)
    assert (again.status, again.note, again.seconds) == ("finished", "well, with ü", 12.35)
    assert again.metrics == {"tr@1": 12.5, "retrieval_images": 30}
    pd.testing.assert_frame_equal(again.history, history, check_dtype=False)
    pd.testing.assert_frame_equal(again.norms, norms)
    pd.testing.assert_frame_equal(again.layers, layers)
    pd.testing.assert_frame_equal(run.history, history)
    kept = again.embeddings()
    assert torch.equal(kept["image"], image[:, ::2]) and torch.equal(kept["text"], text)
    assert kept["captions"] == ["ein Hündchen", "b", "c", "d"]
    assert not [name for name in everything(run.folder) if "partial" in name]


def test_frames_written_twice_are_the_same_file(run):
    """So that a resumed run, which reads the rows before its checkpoint, writes what an uninterrupted one does."""
    history = pd.DataFrame({"step": range(50), "loss": torch.rand(50).double().numpy() ** 20})
    run.save_frames(history, history, history)
    first = (run.folder / "history.csv").read_bytes()
    again = load_run(run.folder)
    again.save_frames(again.history, again.norms, again.layers)
    assert (run.folder / "history.csv").read_bytes() == first


def test_a_run_that_failed_in_its_first_step_can_be_read(run):
    run.save_frames(pd.DataFrame([]), pd.DataFrame([]), pd.DataFrame([]))
    again = load_run(run.folder)
    assert len(again.history) == len(again.norms) == 0 and list(again.history.columns) == ["step"]


def test_a_run_of_an_older_version_has_layers_without_rows(run):
    run.save_frames(pd.DataFrame({"step": [0]}), pd.DataFrame({"step": [0]}), pd.DataFrame({"step": [0]}))
    (run.folder / "layers.csv").unlink()
    assert len(load_run(run.folder).layers) == 0 and tuple(load_run(run.folder).layers.columns) == COLUMNS


def test_a_default_folder_is_new_and_says_what_is_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = EX.replace(data="some where/my data:x")
    names = []
    for _ in range(3):
        folder = new_run_folder(experiment)
        assert not folder.exists() and folder.parent == Path("runs")
        new_run(experiment, folder)
        names.append(folder.name)
    assert len(set(names)) == 3
    assert all(name.split("-", 2)[2].startswith("my_data_x-cyclip-adamw") for name in names)
    assert new_run(EX).folder.parent == Path("runs")


def test_a_folder_that_is_not_free(run, tmp_path):
    assert "exists already and is not empty: give another folder, or resume" in message_of(new_run, EX, run.folder)
    (tmp_path / "file").write_text("")
    assert "exists already" in message_of(new_run, EX, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert new_run(EX, str(tmp_path / "empty")).folder == tmp_path / "empty"
    assert new_run(EX, tmp_path / "deep" / "er").status == "running"


def test_a_parent_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    assert "file/run cannot be made: Not a directory" in message_of(new_run, EX, tmp_path / "file" / "run")
    assert "cannot be made: File name too long" in message_of(new_run, EX, tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot be made: Permission denied" in message_of(new_run, EX, tmp_path / "run")


def test_a_folder_that_is_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message_of(load_run, "nowhere") == "nowhere does not exist. Make one with: clipedu train"
    new_run(EX, "runs/one")
    new_run(EX, "runs/grid/two")
    message = message_of(load_run, ".")
    assert "is not a run's folder: it has no experiment.json. Runs here: runs/grid/two, runs/one" in message


@pytest.mark.parametrize("name", ["experiment.json", "status.json", "metrics.json", "environment.json"])
@pytest.mark.parametrize("content", [b"", b'{"a": ', b"[1, 2]", b"\xff\xfe\x00"])
def test_a_damaged_file_is_named(run, name, content):
    run.save_metrics({"tr@1": 1})
    (run.folder / name).write_bytes(content)
    assert f"run/{name} cannot be" in message_of(load_run, run.folder)


def test_an_experiment_of_another_version_is_named(run):
    settings = json.loads(EX.to_json()) | {"no_such_setting": 1}
    (run.folder / "experiment.json").write_text(json.dumps(settings))
    assert "experiment.json cannot be used: unknown field of Experiment 'no_such_setting'" in message_of(
        load_run, run.folder
    )


def test_a_damaged_table_is_named(run):
    (run.folder / "history.csv").write_bytes(b'a,b\n1,2\n1,2,3,4\n"')
    assert "history.csv cannot be read" in message_of(lambda: load_run(run.folder).history)


def test_status_can_not_change_what_a_run_is(run):
    (run.folder / "status.json").write_text(
        '{"status": "failed", "note": "n", "seconds": 3, "folder": "/", "other": 1}'
    )
    again = load_run(run.folder)
    assert (again.folder, again.status, again.note, again.seconds) == (run.folder, "failed", "n", 3)


def test_find_runs(tmp_path):
    for name in ("b", "grid/x", "grid/y", "grid/deep/z", "a"):
        new_run(EX, tmp_path / name)
    names = [run.name for run in find_runs([tmp_path / "grid", tmp_path / "b"])]
    assert names == ["z", "x", "y", "b"]
    assert [run.name for run in find_runs([tmp_path / "b", tmp_path / "grid" / "x", tmp_path])] == [
        "b",
        "x",
        "a",
        "z",
        "y",
    ]
    (tmp_path / "empty").mkdir()
    assert "empty is not a run's folder" in message_of(find_runs, [tmp_path / "b", tmp_path / "empty"])
    assert "nowhere does not exist" in message_of(find_runs, [str(tmp_path / "nowhere")])


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


# checkpoints


def test_the_model_comes_back(run, model, tokenizer):
    tokenizer.save(run.folder / "tokenizer")
    run.save_checkpoint(4, model, state_of(4))
    again = load_run(run.folder).model()
    assert not again.training and again.device.type == "cpu"
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert torch.equal(again.embed_texts(["a red circle"]), model.embed_texts(["a red circle"]))
    x = torch.eye(8)
    assert torch.allclose(again.geometry.similarity(x, x), x)


def test_the_model_comes_back_without_the_weights_it_began_with(run, model, tokenizer, tmp_path):
    other = new_run(EX.replace(image_weights="gone.safetensors", text_weights="pretrained"), tmp_path / "other")
    tokenizer.save(other.folder / "tokenizer")
    other.save_checkpoint(1, model, {})
    assert torch.equal(load_run(other.folder).model().image_projection.weight, model.image_projection.weight)


def test_a_checkpoint_that_is_damaged_or_does_not_fit(run, model, tokenizer):
    tokenizer.save(run.folder / "tokenizer")
    run.save_checkpoint(4, torch.nn.Linear(2, 3), {})
    assert "does not fit its experiment" in message_of(run.model)
    path = run.checkpoint() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    assert "model.safetensors cannot be read: " in message_of(run.model)
    path.unlink()
    assert "model.safetensors cannot be read: " in message_of(run.weights)


@pytest.mark.parametrize("name", ["embeddings.safetensors", "captions.json"])
def test_damaged_embeddings(run, name):
    run.save_embeddings({"image": torch.zeros(2, 3), "text": torch.zeros(2, 3)}, {"captions": ["a", "b"]})
    (run.folder / name).write_text("[")
    assert "the embeddings in" in message_of(run.embeddings) and "Score the run again" in message_of(run.embeddings)


# files and environment


def test_text_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "f.txt"
    write_text(path, "first ü")
    with monkeypatch.context() as patch:

        def killed(self, target):
            raise Killed

        patch.setattr(Path, "replace", killed)
        with pytest.raises(Killed):
            write_text(path, "second")
    assert path.read_text(encoding="utf-8") == "first ü"
    write_text(path, "third")
    assert path.read_text() == "third" and [p.name for p in tmp_path.iterdir()] == ["f.txt"]


def test_text_that_can_not_be_written(tmp_path):
    assert "no/f.json cannot be written: No such file or directory" in message_of(
        write_json, tmp_path / "no" / "f.json", {}
    )


def test_json(tmp_path):
    write_json(tmp_path / "f.json", {"a": [1, None, "ü"]})
    assert read_json(tmp_path / "f.json") == {"a": [1, None, "ü"]}
    assert read_json(tmp_path / "not there.json") == {}


def test_environment():
    got = environment()
    assert got["torch"] == torch.__version__ and got["clipedu"] == clipedu.__version__
    assert {"timm", "transformers", "numpy", "python", "device", "threads", "date", "platform", "cores"} <= set(got)
    json.dumps(got)


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_clipedus_own(tmp_path, monkeypatch):
    module = tmp_path / "clipedu" / "environment.py"
    module.parent.mkdir()
    module.write_text("x")
    monkeypatch.setattr(environment_room, "__file__", str(module))
    assert environment()["commit"] is None  # no checkout at all
    git(tmp_path, "init", "-q")
    (tmp_path / "mine.txt").write_text("a user's project that has clipedu in its .venv")
    git(tmp_path, "add", "mine.txt")
    git(tmp_path, "commit", "-qm", "mine")
    assert environment()["commit"] is None
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "clipedu")
    assert environment()["commit"] == git(tmp_path, "rev-parse", "--short", "HEAD")
    module.write_text("changed")
    assert environment()["commit"] == git(tmp_path, "rev-parse", "--short", "HEAD") + "+"
