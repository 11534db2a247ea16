"""Objects shared with processes: the same again, arrays mapped and not copied, and what cannot be shared is said."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from clipedu.data.scenes.dataset import Scenes
from clipedu.utils.shared_objects import NotShareable, open_shared, share

KINDS = {
    "array": np.arange(100_000.0),
    "fortran": np.asfortranarray(np.arange(90_000.0).reshape(300, 300)),
    "empty": np.zeros((0, 3)),
    "tensor": torch.arange(100_000),
    "bytes": torch.arange(300_000).to(torch.uint8).reshape(100, 3000),
    "bool": torch.arange(100_000) % 3 == 0,
    "transposed": torch.arange(90_000.0).reshape(300, 300).T,
    "part": torch.arange(300_000)[100:200_000:2],
    "scalar": torch.tensor(2.5),
    "bfloat16": torch.arange(100_000).to(torch.bfloat16),
    "sparse": torch.eye(300).to_sparse(),
    "conjugate": torch.full((300, 300), 1 + 2j).conj(),
    "leaf": torch.ones(100_000, requires_grad=True),
    "parameter": torch.nn.Parameter(torch.ones(100_000)),
    "mask": np.ma.masked_less(np.arange(100_000.0), 5),
}


def values(x):
    return x.detach().to_dense().resolve_conj().numpy() if x.dtype is not torch.bfloat16 else x.float().numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_again(kind, tmp_path):
    given = KINDS[kind]
    share({"x": given, "again": given, "words": ["a"]}, tmp_path / "file")
    found = open_shared(tmp_path / "file")
    assert type(found["x"]) is type(given) and found["x"] is found["again"] and found["words"] == ["a"]
    assert found["x"].dtype == given.dtype and found["x"].shape == given.shape
    if isinstance(given, torch.Tensor):
        assert found["x"].requires_grad == given.requires_grad
        assert np.array_equal(values(found["x"]), values(given))
    else:
        assert np.array_equal(found["x"], given)


def test_what_one_writes_no_other_sees(tmp_path):
    share({"a": np.zeros(100_000), "t": torch.zeros(100_000)}, tmp_path / "file")
    one, other = open_shared(tmp_path / "file"), open_shared(tmp_path / "file")
    one["a"][:] = 1
    one["t"] += 1
    assert not other["a"].any() and not other["t"].any() and not open_shared(tmp_path / "file")["a"].any()
    (tmp_path / "file").unlink()
    assert other["a"].sum() == 0 and one["t"].sum() == 100_000, "the file may be removed once it is open"


def test_large_arrays_are_mapped(tmp_path):
    scenes = Scenes("train", 200)
    scenes.identity()
    share(scenes, tmp_path / "file")
    found = open_shared(tmp_path / "file")
    assert found.identity() == scenes.identity() and found.captions(7) == scenes.captions(7)
    pixels = torch.arange(200)
    assert torch.equal(found.pixels(pixels), scenes.pixels(pixels))
    if sys.platform == "linux":
        address, maps = found._cache.data_ptr(), Path("/proc/self/maps").read_text().splitlines()
        spans = [(line, *(int(end, 16) for end in line.split()[0].split("-"))) for line in maps]
        assert str(tmp_path / "file") in next(line for line, start, end in spans if start <= address < end)


def test_what_others_cannot_open_is_said(tmp_path, monkeypatch):
    with pytest.raises(NotShareable, match="cannot be pickled"):
        share([lambda: 0], tmp_path / "file")
    main = ModuleType("__main__")
    exec("class Own:\n    pass\ndef own():\n    pass", main.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", main)
    for thing in (main.Own(), main.Own, main.own, {"deep": [main.Own()]}):
        with pytest.raises(NotShareable, match="(?i)own is defined in the main module"):
            share(thing, tmp_path / "file")
    assert not list(tmp_path.iterdir())
