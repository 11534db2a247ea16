"""A sweep in a TOML file: what it gives, and what is told of a wrong one."""

import pytest

from clipedu.cli.sweep_file import read_sweep_file
from tests.helpers.errors import message_of


def test_tables_and_options(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(
        'preset = "tiny"\ntrials = 5\nseeds = [0, 1]\n[vary]\nlr = "1e-4..1e-2:log"\noptimizer_options.betas = [[0.9, 0.95]]\n'
        '"loss_options.gamma" = [0.5]\n[settings]\nepochs = 3\nloss_options = {form = "course"}\n'
    )
    assert read_sweep_file(path) == {
        "preset": "tiny",
        "trials": 5,
        "seeds": [0, 1],
        "vary": {"lr": "1e-4..1e-2:log", "optimizer_options.betas": [[0.9, 0.95]], "loss_options.gamma": [0.5]},
        "variants": {},
        "settings": {"epochs": 3, "loss_options": {"form": "course"}},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr = [1,", "my.toml is not a TOML file"),
        ("\x00", "my.toml is not a TOML file"),
        ("trails = 3", "unknown entry 'trails'. Did you mean 'trials'?"),
        ("trials = true", "trials = True is not a whole number"),
        ("trials = 2.5", "trials = 2.5 is not a whole number"),
        ('seeds = ["a"]', "seeds = ['a'] is not a list of whole numbers"),
        ("seeds = 3", "seeds = 3 is not a list of whole numbers"),
        ('vary = "lr"', "vary = 'lr' is not a table: write [vary], and below it NAME = VALUES"),
        ("holdout = 1", "holdout = 1 is not a number with a point, above 0 and below 1"),
        ("sampler = 3", "sampler = 3 is not a text"),
    ],
)
def test_what_is_told(tmp_path, text, message):
    path = tmp_path / "my.toml"
    path.write_text(text)
    assert message in message_of(read_sweep_file, path)


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    assert "cannot be read: No such file" in message_of(read_sweep_file, tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    assert "is not a TOML file" in message_of(read_sweep_file, tmp_path / "bytes.toml")
    assert "cannot be read: Is a directory" in message_of(read_sweep_file, tmp_path)
