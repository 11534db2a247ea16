"""Scripts and Python processes of the tests: one way to load and to run them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def load_script(name: str) -> ModuleType:
    """Import `scripts/NAME.py`, which is in no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment(**changes: str) -> dict[str, str]:
    """The environment of a process that imports this checkout, from any working directory."""
    return os.environ | {"PYTHONPATH": str(ROOT)} | changes


def run_python(*words: object, **options) -> subprocess.CompletedProcess:
    """Run this Python with these words to its end; its output is text.

    Args:
        words: what follows `python`, e.g. "-c", code.
        options: of `subprocess.run`, e.g. cwd, timeout, and env with `environment(...)`.
    """
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, **{"env": environment(), "capture_output": True, "text": True} | options)


def modules_after(code: str) -> set[str]:
    """Names of all modules that are loaded once `code` has run in a new Python."""
    done = run_python("-c", f"{code}\nimport sys; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def assert_light(module: str, heavy: tuple[str, ...] = ("matplotlib", "torch", "pandas")) -> None:
    """Check that importing `module` loads none of `heavy`."""
    loaded = modules_after(f"import {module}")
    assert module in loaded and loaded.isdisjoint(heavy), loaded & set(heavy)
