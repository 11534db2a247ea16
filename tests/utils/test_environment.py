"""The environment of a run, and the commit of clipedu itself."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from clipedu.utils import environment as environment_module
from clipedu.utils.environment import environment


def test_environment():
    got = environment("1.2.3")
    assert got["torch"] == torch.__version__ and got["clipedu"] == "1.2.3"
    assert {"timm", "transformers", "numpy", "python", "device", "threads", "date", "platform", "cores"} <= set(got)
    json.dumps(got)


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_clipedus_own(tmp_path, monkeypatch):
    module = tmp_path / "clipedu" / "environment.py"
    module.parent.mkdir()
    module.write_text("x")
    monkeypatch.setattr(environment_module, "__file__", str(module))
    assert environment("1.2.3")["commit"] is None  # no checkout at all
    git(tmp_path, "init", "-q")
    (tmp_path / "mine.txt").write_text("a user's project that has clipedu in its .venv")
    git(tmp_path, "add", "mine.txt")
    git(tmp_path, "commit", "-qm", "mine")
    assert environment("1.2.3")["commit"] is None
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "clipedu")
    assert environment("1.2.3")["commit"] == git(tmp_path, "rev-parse", "--short", "HEAD")
    module.write_text("changed")
    assert environment("1.2.3")["commit"] == git(tmp_path, "rev-parse", "--short", "HEAD") + "+"
