"""The parser and `main`: exit codes, messages, names."""

import subprocess
import sys

import pytest

from clipedu.cli.parser import build_parser, main
from clipedu.config.command_line import experiment_changes
from tests.cli.options import TINY


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
        (["train", "--resume", "nowhere", "--lr", "1"], "takes no other option than --epochs"),
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


def test_no_help_shows_a_doubled_percent_sign():
    commands = next(action for action in build_parser()._actions if isinstance(action.choices, dict))
    assert "95 % interval" in commands.choices["compare"].format_help()
    for name, parser in commands.choices.items():
        assert "%%" not in parser.format_help(), name


def test_help_is_quick_and_light():
    code = (
        "import sys; from clipedu.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "--weight-decay" in shown.stdout


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    def stopped(args):
        args.how_to_go_on = "Resume with: that"
        raise KeyboardInterrupt

    monkeypatch.setattr("clipedu.cli.parser.list_names", stopped)
    assert main(["list"]) == 130
    assert capsys.readouterr().err == "\nclipedu: stopped; what was done is kept. Resume with: that\n"
