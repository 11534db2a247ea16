"""`doctor()`: whether the installed packages fit together."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version


@dataclass(frozen=True)
class Finding:
    """The result of one check: what, whether it is fine, what to do."""

    what: str
    fine: bool
    note: str

    def __str__(self) -> str:
        return f"{'fine' if self.fine else 'MEND'}   {self.what:<24} {self.note}"


def doctor() -> None:
    """Print a line for each check of the installed packages.

    The checks are of Python, the dependencies, torch and its device, torchvision and the widgets; a line says "fine", or "MEND" and how.

    It prints by design: it is what a notebook's first cell calls. `findings` returns the same as objects.
    """
    for finding in findings():
        print(finding)


def findings() -> list[Finding]:
    """Check the installed packages; returns what `doctor` prints."""
    wanted = (3, 10)
    python = Finding(f"Python {platform.python_version()}", sys.version_info >= wanted, sys.executable)
    return [python, _dependencies(), _torch(), _torchvision(), _widgets()]


def _dependencies() -> Finding:
    return required_versions(
        metadata.requires("clipedu") or (), {dist.name: dist.version for dist in metadata.distributions() if dist.name}
    )


def required_versions(requirements: Iterable[str], installed: Mapping[str, str]) -> Finding:
    """Check the installed packages against the versions that are required.

    pip sees to them, but not with `--no-deps`, and not when another package is installed later.

    Args:
        requirements: as a package's metadata has them, e.g. "torch>=2.7"; those of extras are left out.
        installed: package to version.
    """
    versions = {canonicalize_name(name): version for name, version in installed.items()}
    wanted = [
        need for need in map(Requirement, requirements) if need.marker is None or need.marker.evaluate({"extra": ""})
    ]
    wrong = {}
    for need in wanted:
        version = versions.get(canonicalize_name(need.name), "")
        if not version or not need.specifier.contains(version, prereleases=True):
            wrong[f"{need.name}{need.specifier}"] = version or "missing"
    if not wrong:
        return Finding("dependencies", True, f"{len(wanted)} packages, all of versions that are tested")
    found = ", ".join(f"{need} (here {version})" for need, version in wrong.items())
    remedy = " ".join(f'"{need}"' for need in wrong)
    return Finding(
        "dependencies", False, f"clipedu needs {found}: pip install --upgrade {remedy}, then restart the kernel"
    )


def _torch() -> Finding:
    import torch

    threads = f"{torch.get_num_threads()} of {os.cpu_count()} cores"
    note = torch.cuda.get_device_name() if torch.cuda.is_available() else f"no GPU: training runs on {threads}"
    return Finding(f"torch {torch.__version__}", True, note)


def _torchvision() -> Finding:
    """Check whether torchvision imports and fits the installed torch."""
    needs = (Requirement(need) for need in metadata.requires("torchvision") or ())
    wanted = next((str(need.specifier) for need in needs if need.name == "torch"), "")
    try:
        import torchvision  # noqa: F401

        error = ""
    except (ImportError, RuntimeError) as problem:
        error = str(problem).splitlines()[0]
    return torch_pair(metadata.version("torch"), metadata.version("torchvision"), wanted, error)


def torch_pair(torch: str, torchvision: str, wanted: str, error: str = "") -> Finding:
    """Check whether torch and torchvision fit together.

    torchvision's compiled part fits certain versions of torch only. With another it isn't loaded, and importing torchvision
    (or timm, which imports it) ends in "operator torchvision::nms does not exist".

    Args:
        torch, torchvision: installed versions.
        wanted: the versions of torch that this torchvision requires, e.g. "==2.9.0" or ">=2.14.0"; "" if unspecified.
        error: the message of importing torchvision; "" if it worked.
    """
    remedy = "install both in one command: pip install --upgrade torch torchvision, then restart the kernel"
    what = f"torchvision {torchvision}"
    if not SpecifierSet(wanted).contains(Version(torch).base_version):
        return Finding(what, False, f"asks for torch {wanted}, but torch is {torch}: {remedy}")
    if error:
        return Finding(what, False, f"does not import ({error}): {remedy}")
    return Finding(what, True, f"loads, and asks for torch {wanted or 'of any version'}")


def _widgets() -> Finding:
    versions = {}
    for package in ("ipywidgets", "jupyterlab_widgets"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = ""
    return widget_pair(versions["ipywidgets"], versions["jupyterlab_widgets"])


def widget_pair(back: str, front: str) -> Finding:
    """Check that ipywidgets and jupyterlab_widgets fit together.

    8 (in Python) goes with 3 (in the browser); "" = not installed.
    """
    what = f"ipywidgets {back or 'missing'}"
    if back.startswith("8.") and front.startswith("3."):
        return Finding(what, True, f"with jupyterlab_widgets {front}")
    found = f"with jupyterlab_widgets {front or 'missing'}; 8 and 3 belong together"
    return Finding(what, False, f"{found}: pip install --upgrade ipywidgets, then restart JupyterLab")
