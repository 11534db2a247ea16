"""The environment of a run: versions, device, threads and commit."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any


def environment(version: str) -> dict[str, Any]:
    """Return versions, device, threads, commit and date, for JSON.

    Args:
        version: of clipedu.
    """
    import torch

    def installed(package: str) -> str:
        from importlib import metadata

        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "not installed"

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    packages = {name: installed(name) for name in ("timm", "transformers", "numpy")}
    return {
        "clipedu": version,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        **packages,
        "platform": platform.platform(),
        "device": device,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _commit() -> str | None:
    """Return the commit of clipedu's checkout, with a + if it has changes.

    It is None for an installed package.
    """

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # else it is the commit of a project that has clipedu in its .venv
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None
