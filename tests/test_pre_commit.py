"""The hooks of .pre-commit-config.yaml, each on all files: linters, types, spelling, notebooks without outputs, contracts."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOOKS = re.findall(r"- id: (\S+)", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))


def test_no_hook_needs_a_network():
    config = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"repo: (\S+)", config) == ["local"]
    assert re.findall(r"language: (\S+)", config) == ["system"] * len(HOOKS)
    assert {"ruff", "ruff-format", "mypy", "typos", "nbstripout", "lint-imports"} <= set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_passes(hook, tmp_path):
    pytest.importorskip("pre_commit", reason="the hooks need: pip install -e '.[test]'")
    if not (ROOT / ".git").exists():
        pytest.skip("pre-commit reads the list of files from git, and this is no git checkout")
    beside_python = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([beside_python, os.environ["PATH"]]),
        "PRE_COMMIT_HOME": str(tmp_path),
    }
    command = [sys.executable, "-m", "pre_commit", "run", hook, "--all-files", "--color", "never"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
