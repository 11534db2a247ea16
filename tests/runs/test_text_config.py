"""A text encoder's configuration with values that cannot be: one line that names the file, and a run that can be mended."""

import json
import shutil

import pytest

from clipedu import load_run, resume
from tests.helpers.errors import message_of

ABSURD = [
    ("n_heads", -1), ("n_heads", 0), ("n_heads", 3), ("n_heads", [1]), ("dim", 0), ("dim", -4), ("dim", "x"), ("dim", None),
    ("vocab_size", "x"), ("n_layers", 1e9), ("hidden_dim", 10**12), ("max_position_embeddings", 0), ("dropout", 7),
    ("pad_token_id", 99_999), ("activation", "nope"), ("model_type", "nope"), ("model_type", 3), ("dtype", "nope"),
]  # fmt: skip


def spoil(folder, key, value):
    path = folder / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    return path


@pytest.mark.parametrize(("key", "value"), ABSURD)
def test_an_absurd_value_is_one_line_that_names_the_file(finished, tmp_path, key, value):
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    path = spoil(folder, key, value)
    again = f"{path} is not what the run was trained with: it is made again by clipedu train --resume {folder}"
    if key != "dtype":  # that of the file is not used
        assert message_of(load_run(folder).model) == again
    facts = load_run(folder).checkpoint() / "checkpoint.json"
    facts.unlink()  # as of an older version, without sums
    message = message_of(load_run(folder).model)
    assert message.startswith(f"{path} cannot be used: text encoder ") and "\n" not in message
    assert message.endswith(f"remove {path.parent}: it is then made again from the settings")


def test_a_configuration_that_is_removed_is_made_again(finished, tmp_path):
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    shutil.rmtree(folder / "text_encoder")
    load_run(folder).model()


@pytest.mark.parametrize(("key", "value"), [("n_heads", -1), ("dim", 0), ("vocab_size", "x"), ("model_type", 3)])
def test_a_run_goes_on_whatever_the_configuration_says(finished, tmp_path, key, value):
    """Training goes on from the settings; the configuration is written again."""
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    path = spoil(folder, key, value)
    (folder / "status.json").write_text('{"status": "stopped"}')
    (folder / "metrics.json").unlink()
    assert resume(folder, progress=False, report=False).metrics == finished.metrics
    assert path.read_text() == (finished.folder / "text_encoder" / "config.json").read_text()
