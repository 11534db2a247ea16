"""Whatever file of a run is damaged is named before a table of many runs is made of it."""

import shutil

import pytest

from clipedu.runs.folders import load_run
from clipedu.runs.intact import check_files, check_tables
from tests.helpers.errors import message_of

FILES = ("history.csv", "norms.csv", "layers.csv", "data.json", "captions.json", "embeddings.safetensors")


def test_a_sound_run_and_one_that_has_not_begun_pass(finished, tmp_path):
    check_files(load_run(finished.folder))
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(finished.folder / "experiment.json", begun)
    check_files(load_run(begun))


@pytest.mark.parametrize("name", FILES)
def test_each_damaged_file_is_named(finished, tmp_path, name):
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    path = folder / name
    path.write_bytes(path.read_bytes()[:-30] + b'\n"')
    message = message_of(check_files, load_run(folder))
    assert message.startswith(f"{path} cannot be "), message
    if name.endswith(".csv"):
        assert message_of(check_tables, load_run(folder)) == message


@pytest.mark.parametrize("name", ["history.csv", "norms.csv"])
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_a_table_cut_between_two_lines_is_named(finished, tmp_path, name, cut):
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    path = folder / name
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:cut]))
    assert f"{path} is cut: it has" in message_of(check_files, load_run(folder))
