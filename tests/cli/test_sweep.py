"""`clipedu sweep`."""

import pytest

from clipedu.cli.parser import main
from clipedu.data.scenes.sampling import SPLITS
from clipedu.training.trainer import Trainer
from tests.cli.options import TINY
from tests.helpers.small_runs import stop_at

FILE = """
preset = "tiny"
sampler = "grid"
pruner = "none"
holdout = 0.5
[vary]
lr = [0.001, 0.01]
[variants]
loss = ["clip", "cyclip"]
[settings]
train_size = 32
embedding_dim = 16
"""


@pytest.fixture(autouse=True)
def small_sets(monkeypatch):
    pytest.importorskip("optuna", reason="sweeps need Optuna: pip install 'clipedu[sweep]'")
    monkeypatch.setitem(SPLITS, "val", 20)
    monkeypatch.setitem(SPLITS, "zeroshot", 20)


def test_a_line_a_trial_and_a_row_a_variant_and_the_same_command_goes_on(tmp_path, monkeypatch, capsys):
    file, folder = tmp_path / "my.toml", tmp_path / "sweep"
    file.write_text(FILE)
    words = ["sweep", str(file), "--folder", str(folder), "--batch-size", "8", "--epochs", "1"]
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        assert main(words) == 130
    said = capsys.readouterr()
    assert f"2 x 2 trials x 1 seeds in {folder}/, 4 to do; chosen by average on 50 % of the training pairs" in said.out
    assert "The same command continues with the trials that are missing." in said.err
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "4 to do" in shown
    for line in ("loss=clip, trial 0: lr=0.001: finished average ", "loss=cyclip, trial 1: lr=0.01: finished average "):
        assert line in shown
    assert "| variant | lr | held out | TR@1 | IR@1 | top-1 | average |" in shown
    assert shown.rstrip().endswith(f"Report: {folder}/report.html") and (folder / "report.html").is_file()
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("trained again"))
    assert main(words) == 0
    assert "0 to do" in capsys.readouterr().out
    assert main([*words, "--lr", "0.1"]) == 2
    assert "lr is given, and varied too: leave one of them out" in capsys.readouterr().err
    words[words.index("--epochs") + 1] = "2"
    assert main(words) == 2
    assert "tries something else: epochs was '1' and is now '2'. Give another --folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is nothing to vary: name a setting, such as lr=1e-4..1e-2:log"),
        (["--vary", "lr"], "'lr' is not NAME=VALUES"),
        (["--vary", "lrr=1,2"], "unknown setting 'lrr'. Did you mean 'lr'?"),
        (["--vary", "lr=1,2", "--sampler", "bayes"], "unknown sampler 'bayes'. Allowed: tpe, random, grid"),
        (["--vary", "lr=1,2", "--trials", "0"], "'0' is not a whole number from 1 on"),
        (["--vary", "lr=1,2", "--seeds", "1", "1"], "--seeds: 1 is given twice"),
        (["--vary", "lr=1,2", "--variants", "lr=1,2"], "lr is both varied and compared"),
        (["--vary", "lr=1,2", "--loss", "vicreg", "--temperature", "0.1"], "temperature=0.1 has no effect here"),
        (["--vary", "loss_options.gamma=0.1,0.2", "--loss", "sogclr", "--loss-options", "gamma=0.5"], "loss_options.gamma is given, and"),
        (["no-such.toml"], "no-such.toml cannot be read: No such file or directory"),
        (["--vary", "lr=1,2", "--seed", "1"], "unknown option --seed. Did you mean --seeds"),
        (["--vary", "lr=0.1,0.2", "--storage", "nonsense"], "cannot be opened"),
    ],
)  # fmt: skip
def test_what_is_told(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["sweep", *TINY, *words])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr().err
    assert code == 2 and message in said and len(said.splitlines()) == 1 and "Traceback" not in said


def test_a_seed_among_the_settings_of_a_file_is_told(tmp_path, capsys):
    file = tmp_path / "my.toml"
    file.write_text("[vary]\nlr = [1.0, 2.0]\n[settings]\nseed = 3\n")
    assert main(["sweep", str(file)]) == 2
    assert "seed = 3 among its settings: write seeds = [3] above them" in capsys.readouterr().err
