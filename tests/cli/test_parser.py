"""The command line, as a user meets it: real processes for what matters, `main` in process for the rest."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clipedu import load_run
from clipedu.cli.parser import build_parser, main
from clipedu.config.command_line import experiment_changes

TINY = ["--train-size", "32", "--batch-size", "16", "--epochs", "1", "--embedding-dim", "16"]


def test_train_evaluate_report(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", *TINY, "--loss", "sogclr", "--loss-options", "gamma=0.5", "--folder", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "TR@1" in shown and "image -> text" in shown and "chance" in shown and str(run) in shown
    assert load_run(run).experiment.loss_options == {"gamma": 0.5}
    assert main(["evaluate", str(run)]) == 0
    capsys.readouterr()
    assert (
        main(["evaluate", str(run), "--zeroshot-data", "scenes"]) == 0
    )  # other sets: shown with the average of all scores
    shown = {
        words[0]: float(words[1])
        for line in capsys.readouterr().out.splitlines()
        if len(words := line.split()) > 3 and words[0] in ("TR@1", "IR@1", "top-1", "average")
    }
    assert shown["average"] == pytest.approx((shown["TR@1"] + shown["IR@1"] + shown["top-1"]) / 3, abs=0.01)
    assert main(["report", str(run), "--folder", str(tmp_path / "paper")]) == 0
    assert (tmp_path / "paper" / "report.html").is_file() and (tmp_path / "paper" / "report.md").is_file()


def test_train_on_shards_names_what_it_left_out(tmp_path, capsys):
    from tests.helpers.shard_maker import make_shards, photo, sample, write_tar

    folder = make_shards(tmp_path / "own", 20)
    make_shards(folder, 6, name="own", split="val", captions=5)
    write_tar(folder / "own-train-009.tar", [*sample("good", photo(9), ["fine"]), *sample("silent", photo(8), None)])
    assert (
        main(
            [
                "train",
                *TINY,
                "--data",
                str(folder),
                "--train-size",
                "none",
                "--batch-size",
                "7",
                "--folder",
                str(tmp_path / "run"),
            ]
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert "1 samples of own/train were left out" in shown and "silent" in shown
    assert "on 6 images with 30 captions" in shown and "top-1" not in shown.split("average")[0].replace("zero-shot", "")


def test_groups_of_an_experiment_are_shown_and_nothing_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["groups", *TINY, "--optimizer", "adamc", "--weight-decay", "0.07", "--learn-temperature", "true"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split() for line in shown.splitlines()}
    assert rows["decayed"][3:5] == ["0.07", "corrected"] and rows["head"][3:5] == ["0.07", "constant"]
    assert rows["not decayed"][4:6] == ["0", "-"] and rows["loss"][1:5] == ["1", "1", "0", "-"]
    assert list(rows) == ["group", "decayed", "head", "not decayed", "loss", "total"] and not list(tmp_path.iterdir())
    assert main(["groups", *TINY, "--optimizer", "sgd"]) == 0
    assert "coupled L2" in capsys.readouterr().out


def test_grid_prints_the_time_of_each_cell_and_goes_on(tmp_path, capsys):
    words = ["grid", *TINY, "--losses", "clip", "vicreg", "--optimizers", "adamw", "--folder", str(tmp_path / "grid")]
    assert main(words) == 0
    first = capsys.readouterr().out
    assert "adamw-clip" in first and "adamw-vicreg" in first and "seconds" in first
    assert (tmp_path / "grid" / "report.html").is_file()
    assert main(words) == 0  # everything is there already
    again = capsys.readouterr().out
    scores = [[line.split()[:-1] for line in shown.splitlines() if "adamw-" in line] for shown in (first, again)]
    assert len(scores[0]) == 2 and scores[0] == scores[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--loss", "clop"], "unknown loss 'clop'. Did you mean 'clip'? Allowed: clip,"),
        (["train", "--preset", "lapto"], "unknown preset 'lapto'. Did you mean 'laptop'?"),
        (["train", "--image-encoder", "resnet5000"], "unknown image encoder 'resnet5000'"),
        (["train", "--batch-size", "64", "--train-size", "32"], "batch_size=64 is larger than the data"),
        (["train", "--data", "no/such/folder"], "no/such/folder"),
        (["train", "--lr", "-1"], "lr=-1.0 must be above 0"),
        (["train", "--resume", "nowhere"], "nowhere does not exist"),
        (["train", "--resume", "nowhere", "--lr", "1"], "takes no other option"),
        (["evaluate", "nowhere"], "nowhere does not exist"),
        (["report", "nowhere"], "nowhere does not exist"),
        (["grid", "--losses", "clap"], "unknown loss 'clap'"),
        (
            ["train", "--text-encoder", "distilbert-base-uncased", "--text-weights", "pretrained", *TINY],
            "the tokenizer of 'distilbert-base-uncased'",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("clipedu: ") and message in error
    assert not (tmp_path / "runs").exists()  # nothing half-written


def test_a_run_folder_that_is_not_one(tmp_path, capsys):
    (tmp_path / "other").mkdir()
    assert main(["evaluate", str(tmp_path / "other")]) == 2
    assert "is not a run's folder: it has no experiment.json" in capsys.readouterr().err


def test_words_argparse_refuses_are_exit_code_2(capsys):
    for words in (
        ["train", "--no-such", "1"],
        ["train", "--epochs", "many"],
        ["fly"],
        ["train", "--loss-options", "gamma"],
    ):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
        assert capsys.readouterr().err.strip()


def test_every_setting_can_be_given():
    given = build_parser().parse_args(
        [
            "train",
            "--train-size",
            "none",
            "--image-frozen",
            "true",
            "--clip-grad",
            "1",
            "--image-options",
            "pad_type=same",
            "drop_rate=0.1",
            "--temperature",
            "none",
        ]
    )
    assert experiment_changes(given) == {
        "train_size": None,
        "image_frozen": True,
        "clip_grad": 1.0,
        "temperature": None,
        "image_options": {"pad_type": "same", "drop_rate": 0.1},
    }


def test_list(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for name in ("laptop", "onlineclr", "adamw", "cosine", "resnet50", "distilbert-base-uncased"):
        assert name in shown
    assert main(["list", "losses"]) == 0
    assert "adamw" not in capsys.readouterr().out


def test_help_is_quick_and_light():
    code = (
        "import sys; from clipedu.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "--weight-decay" in shown.stdout


def test_ctrl_c_then_resume(tmp_path):
    """A real process, a real SIGINT in the middle of training, and the command that it prints to go on."""
    run = tmp_path / "run"
    words = [
        sys.executable,
        "-m",
        "clipedu",
        "train",
        "--train-size",
        "256",
        "--batch-size",
        "16",
        "--epochs",
        "50",
        "--folder",
        str(run),
    ]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    for _ in range(3000):
        if list(run.glob("checkpoint/step-*")) or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert f"clipedu train --resume {run}" in errors and "Traceback" not in errors
    stopped = load_run(run)
    assert stopped.status == "stopped" and len(stopped.history) > 0
    experiment = Path(run / "experiment.json")
    experiment.write_text(experiment.read_text().replace('"epochs": 50', f'"epochs": {len(stopped.history) // 16 + 1}'))
    assert main(["train", "--resume", str(run)]) == 0
    assert load_run(run).status == "finished"
