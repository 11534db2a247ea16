"""What a module imports, seen in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import clipedu


def modules_after(code: str) -> set[str]:
    """Names of all modules that are loaded once `code` has run in a new Python."""
    environment = {**os.environ, "PYTHONPATH": str(Path(clipedu.__file__).parents[1])}
    command = [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def assert_light(module: str, heavy: tuple[str, ...] = ("matplotlib", "torch", "pandas")) -> None:
    """Importing `module` must load none of `heavy`."""
    loaded = modules_after(f"import {module}")
    assert module in loaded and loaded.isdisjoint(heavy), loaded & set(heavy)
