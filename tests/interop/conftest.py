"""Released models, each saved once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.released import OPEN_CLIP, save_open_clip, save_transformers


@pytest.fixture(scope="session")
def released(tmp_path_factory) -> Callable[[str], tuple[Path, Any]]:
    """The folder and the library's own model of a kind; for reading only."""
    root, made = tmp_path_factory.mktemp("released"), {}

    def get(kind: str) -> tuple[Path, Any]:
        if kind not in made:
            save = save_open_clip if kind in OPEN_CLIP else save_transformers
            made[kind] = (root / kind, save(root / kind, kind))
        return made[kind]

    return get


@pytest.fixture
def broken(released, tmp_path) -> Callable[..., Path]:
    """A copy of a released model's folder with one JSON file changed."""
    import json
    import shutil

    def make(kind: str, file: str, change: Callable[[dict], Any]) -> Path:
        folder = tmp_path / "broken"
        shutil.copytree(released(kind)[0], folder)
        settings = json.loads((folder / file).read_text())
        change(settings)
        (folder / file).write_text(json.dumps(settings))
        return folder

    return make
