"""Files written in one step: a kill, an error or a full disk in between leaves the old one, and nothing else."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import (
    atomic_folder,
    atomic_write,
    check_writable,
    parse_json,
    read_json,
    remove_partial_files,
    reported,
    write_json,
    write_text,
)
from clipedu.utils.schema import Items, Number, Text

ROOT = Path(__file__).resolve().parents[2]


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill -9."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def python(code: str, *words, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        **options,
    )


def test_what_is_written_is_there_when_the_block_ends(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with atomic_write(path, sync=True) as partial:
        assert partial.parent == tmp_path and partial.name.startswith(".f.") and partial.name.endswith(".partial")
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and names(tmp_path) == ["f"]


@pytest.mark.parametrize("error", [Killed, KeyboardInterrupt, ValueError])
def test_an_error_leaves_the_old_file_and_passes_through(tmp_path, error):
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as partial:
        partial.write_text("half of")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["f"]


@pytest.mark.parametrize("place", ["replace", "stat"])
def test_text_is_written_whole_or_not_at_all(tmp_path, monkeypatch, place):
    path = tmp_path / "f.txt"
    write_text(path, "first ü")
    with monkeypatch.context() as patch:

        def killed(self, *args, **options):
            raise Killed

        patch.setattr(Path, place, killed)
        with pytest.raises(Killed):
            write_text(path, "second")
    assert path.read_text(encoding="utf-8") == "first ü"
    write_text(path, "third")
    assert path.read_text() == "third" and names(tmp_path) == ["f.txt"]


def test_a_real_kill_in_the_middle_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    code = """
import os, signal, sys
from pathlib import Path
from clipedu.utils.files import atomic_write
with atomic_write(Path(sys.argv[1])) as partial:
    partial.write_text("half of")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert python(code, path).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_text(path, "new")  # what the kill left has a name of its own
    assert path.read_text() == "new" and len(names(tmp_path)) == 2


WRITERS = {
    "text": "partial.write_text('x' * 100_000)",
    "tensors": "save_file({'x': torch.zeros(100_000)}, partial)",
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_the_old_file_and_one_line(tmp_path, writer):
    """The kernel refuses to let files grow beyond 50 kB."""
    path = tmp_path / "f"
    path.write_text("old")
    code = f"""
import resource, signal, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import atomic_write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    with atomic_write(Path(sys.argv[1]), remedy="free some space") as partial:
        {WRITERS[writer]}
except ClipeduError as error:
    print(error)
"""
    done = python(code, path)
    assert done.stdout.startswith(f"{path} cannot be written: ") and "File too large" in done.stdout, done.stderr
    assert done.stdout.endswith(". free some space\n") and done.stdout.count("\n") == 1
    assert path.read_text() == "old" and [name for name in names(tmp_path) if name.startswith(".f.")] == []


def test_two_writers_at_once_do_not_meet(tmp_path):
    path = tmp_path / "f"
    with atomic_write(path) as one, atomic_write(path) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert path.read_text() == "one" and names(tmp_path) == ["f"]  # the outer one ends last


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_every_file_has_the_mode_that_the_umask_says(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "text", "x")
        with atomic_write(tmp_path / "tensors") as partial:
            save_file({"x": torch.ones(3)}, partial)  # private, left alone
        with atomic_folder(tmp_path / "folder") as folder:
            save_file({"x": torch.ones(3)}, folder / "tensors")
            assert names(folder) == ["tensors"]
    finally:
        os.umask(before)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in names(tmp_path)}
    assert modes == {"folder": 0o777 & ~umask, "tensors": 0o666 & ~umask, "text": 0o666 & ~umask}
    assert (tmp_path / "folder" / "tensors").stat().st_mode & 0o777 == 0o666 & ~umask
    assert load_file(tmp_path / "tensors")["x"].tolist() == [1, 1, 1]


def test_a_folder_appears_with_all_that_is_in_it(tmp_path):
    (tmp_path / "made").mkdir()  # empty: it is replaced
    with atomic_folder(tmp_path / "made") as partial:
        (partial / "one").write_text("1")
        assert names(tmp_path / "made") == []
    assert names(tmp_path) == ["made"] and names(tmp_path / "made") == ["one"]
    with pytest.raises(Killed), atomic_folder(tmp_path / "other") as partial:
        (partial / "one").write_text("1")
        raise Killed
    with (
        pytest.raises(ClipeduError, match="made cannot be written: Directory not empty"),
        atomic_folder(tmp_path / "made"),
    ):
        pass
    assert names(tmp_path) == ["made"] and names(tmp_path / "made") == ["one"]


def test_places_that_cannot_be_written_are_named(tmp_path):
    with pytest.raises(ClipeduError, match="no/f.json cannot be written: No such file or directory$"):
        write_json(tmp_path / "no" / "f.json", {})
    (tmp_path / "file").write_text("")
    with pytest.raises(ClipeduError, match="file/f cannot be written: Not a directory"):
        write_text(tmp_path / "file" / "f", "x")
    with (
        pytest.raises(ClipeduError, match="file/f cannot be written: Not a directory"),
        atomic_folder(tmp_path / "file" / "f"),
    ):
        pass
    with pytest.raises(KeyError), reported(tmp_path):  # nothing to do with writing
        raise KeyError


def test_a_folder_is_checked_before_the_work(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert names(tmp_path / "a") == ["b"] and names(tmp_path / "a" / "b") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ClipeduError, match="file/cache cannot be written: Not a directory. Give another$"):
        check_writable(tmp_path / "file" / "cache", "Give another")


def test_json(tmp_path):
    write_json(tmp_path / "f.json", {"a": [1, None, "ü"]})
    assert read_json(tmp_path / "f.json") == {"a": [1, None, "ü"]}
    assert read_json(tmp_path / "not there.json") == {}


@pytest.mark.parametrize(
    "content, why",
    [
        (b"", r"it is not JSON \(Expecting value"),
        (b"[1]", "the whole is a list of 1, expected an object"),
        (b"\xff", "byte 0 is not UTF-8 text"),
        (b'{"a": {"b": NaN}}', "field 'a.b' is NaN, expected a number"),
        (b'{"a": [1, 1e999]}', "field 'a.1' is Infinity, expected a number"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"a": ' * 50 + b"1" + b"}" * 50, "is nested more than 20 deep"),
        (b'{"a": ' + b"9" * 5000 + b"}", "it is not JSON"),
        (b'{"a": "\\ud800"}', "field 'a' is .* which is not Unicode text"),
    ],
)
def test_json_that_is_damaged(tmp_path, content, why):
    (tmp_path / "f.json").write_bytes(content)
    with pytest.raises(ClipeduError, match=f"f.json cannot be read: .*{why}"):
        read_json(tmp_path / "f.json")


def test_a_folder_or_a_pipe_in_the_place_of_json(tmp_path):
    (tmp_path / "f.json").mkdir()
    with pytest.raises(ClipeduError, match="f.json cannot be read: it is a folder$"):
        read_json(tmp_path / "f.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ClipeduError, match="pipe.json cannot be read: it is no file. Remove it$"):
        read_json(tmp_path / "pipe.json", remedy="Remove it")


def test_json_of_a_schema(tmp_path):
    write_json(tmp_path / "f.json", [1, 2])
    assert read_json(tmp_path / "f.json", Items(Number())) == [1, 2]
    with pytest.raises(ClipeduError, match="f.json cannot be read: field '0' is 1, expected a text. Write it again$"):
        read_json(tmp_path / "f.json", Items(Text()), "Write it again")


def test_what_json_cannot_hold_becomes_null(tmp_path):
    write_json(tmp_path / "f.json", {"a": math.nan, "b": [1.5, math.inf, (-math.inf, "NaN")]})
    text = (tmp_path / "f.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": [1.5, None, [None, "NaN"]]}


def test_a_name_that_is_no_text_is_written_as_an_escape(tmp_path):
    write_text(tmp_path / "f.txt", "run \udcff ü")
    assert (tmp_path / "f.txt").read_text(encoding="utf-8") == r"run \udcff ü"


def test_leftovers_of_a_kill_are_removed_and_nothing_else(tmp_path):
    """Files and folders whose names are those of half-written ones."""
    for name in (".history.csv.1a2b3c4d.partial", "history.csv", ".hidden", "mine.partial"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".folder.partial").mkdir()
    remove_partial_files(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".hidden",
        "history.csv",
        "mine.partial",
    ]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, "{", b"\xff"])
def test_whatever_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text)
    assert parse_json('{"a": [1]}') == {"a": [1]}
