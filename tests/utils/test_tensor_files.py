"""Files of tensors: whole, or one line; a pickled object is refused in our own words."""

import io
import os
import pickle
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from clipedu.utils.tensor_files import read_tensors, read_torch, tensors_misfit
from tests.helpers.errors import message_of


def of_torch(value, **options) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def test_tensors_by_name(tmp_path):
    save_file({"a.x": torch.ones(2), "b": torch.zeros(3, dtype=torch.int64)}, tmp_path / "t")
    assert read_tensors(tmp_path / "t").keys() == {"a.x", "b"} and [*read_tensors(tmp_path / "t", "a.")] == ["a.x"]


def damaged(whole: bytes) -> list[bytes]:
    dice = random.Random(0)
    mutated = []
    for _ in range(20):
        copy = bytearray(whole)
        for _ in range(20):
            copy[dice.randrange(min(len(copy), 300))] = dice.randrange(256)
        mutated.append(bytes(copy))
    return [b"", b"x", whole[:-5], whole[: len(whole) // 2], b"\xff" * 8 + whole[8:], os.urandom(500), *mutated]


def test_damaged_files_are_a_line(tmp_path):
    path = tmp_path / "t"
    save_file({"a": torch.ones(40)}, path)
    readers = {read_tensors: path.read_bytes(), lambda path: read_torch(path, "cpu"): of_torch({"a": torch.ones(40)})}
    refused = 0
    for read, whole in readers.items():
        for content in damaged(whole):
            path.write_bytes(content)
            try:
                read(path)  # some changes leave a file that can be read
            except Exception as error:
                assert str(error).startswith(f"{path} cannot be read: ") and "\n" not in str(error), repr(error)
                refused += 1
    assert refused > 20
    for read in readers:
        path.unlink()
        assert message_of(read, path) == f"{path} cannot be read: No such file or directory"
        path.mkdir()
        assert message_of(read, path) == f"{path} cannot be read: it is a folder"
        path.rmdir()
        os.mkfifo(path)
        assert message_of(read, path) == f"{path} cannot be read: it is no file"


class Mine:
    pass


REFUSED = {
    "an object": of_torch({"step": Mine()}),
    "a path": of_torch(Path("x")),
    "a pickle": pickle.dumps(Mine()),
    "a module": of_torch(torch.nn.Linear(1, 1)),
    "a class, the old way": of_torch({"a": {1, 2, Mine}}, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("content", REFUSED.values(), ids=list(REFUSED))
def test_objects_are_refused_without_advice_to_load_them(tmp_path, content):
    path = tmp_path / "state.pt"
    path.write_bytes(content)
    message = message_of(read_torch, path, "cpu")
    assert "objects other than tensors and plain values, which are never loaded" in message
    assert "weights_only" not in message and "safe_globals" not in message and "trust" not in message


def test_how_tensors_differ():
    wanted = {"a": torch.ones(2, 3), "b": torch.zeros(1)}
    assert tensors_misfit({"b": torch.ones(1), "a": torch.ones(2, 3, dtype=torch.bfloat16)}, wanted) is None
    assert tensors_misfit({}, wanted) == "the tensor 'a' is missing (and 1 more)"
    assert tensors_misfit({**wanted, "c": torch.ones(1)}, wanted) == "the tensor 'c' is not expected"
    assert tensors_misfit({**wanted, "a": torch.ones(3, 2)}, wanted) == "the tensor 'a' is [3, 2], expected [2, 3]"
    whole = {**wanted, "b": torch.zeros(1, dtype=torch.int32)}
    assert tensors_misfit(whole, wanted) == "the tensor 'b' holds int32, expected float32"
