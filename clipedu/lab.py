"""The lab: your own copies of the notebooks, a JupyterLab that only this machine can reach, and a look at the machine.

    clipedu lab                     # copies the notebooks into clipedu-notebooks/ and opens JupyterLab there

Notebooks are copied once. A copy that is there already is never touched, because you may have worked in it; delete or
rename it to get a fresh one. The server listens on 127.0.0.1 alone and asks for a token that is new at each start.
`doctor()` says whether what is installed fits together.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import secrets
import shutil
import socket
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from clipedu.registry import ClipeduError

FIRST = "00_start_here.ipynb"
PORTS_TRIED = 50


def start_lab(folder: str | Path, *, port: int = 8888, browser: bool = True) -> None:
    """Copy the notebooks into `folder` and run JupyterLab there until Ctrl-C.

    Args:
        folder: where your copies live; made if need be. Nothing outside of it is shown.
        port: where to listen on 127.0.0.1; if it is taken, the next free one.
        browser: open a browser on it; otherwise only print the address.
    Raises:
        ClipeduError: no JupyterLab, a folder that can't be written to, or no free port.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise ClipeduError("the lab needs JupyterLab, which is not installed here: pip install jupyterlab ipywidgets")
    folder = Path(folder).expanduser()
    for line in copy_notebooks(folder):
        print(line)
    port, token = free_port(port), secrets.token_urlsafe(24)
    print(f"\nThe lab: http://127.0.0.1:{port}/lab/tree/{FIRST}?token={token}", flush=True)
    print("It takes some seconds to start. Ctrl-C here ends it; your notebooks stay.\n", flush=True)

    from jupyterlab.labapp import LabApp

    LabApp.launch_instance(argv=server_options(folder, port, token, browser))  # in this process: `ps` shows no token
    print(f"The lab is closed. Your notebooks are in {folder}/")


def copy_notebooks(folder: Path) -> list[str]:
    """Copy each notebook that is not in `folder` yet; returns a line on each, new or kept.

    Raises:
        ClipeduError: the folder can't be made or written to.
    """
    lines = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source in shipped_notebooks():
            target = folder / source.name
            if not target.exists():
                shutil.copyfile(source, target)
                lines.append(f"new    {target}")
            elif target.read_bytes() == source.read_bytes():
                lines.append(f"kept   {target}")
            else:
                lines.append(f"kept   {target} (yours; delete or rename it to get the original)")
    except OSError as error:
        raise ClipeduError(
            f"the notebooks can't be copied to {folder}: {error.strerror}. Give another --folder"
        ) from None
    return lines


def shipped_notebooks() -> list[Path]:
    """The notebooks that came with clipedu: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent
    homes = (package / "notebooks", package.parent / "notebooks")
    return sorted(next((home for home in homes if home.is_dir()), homes[0]).glob("[0-9]*.ipynb"))


def free_port(port: int) -> int:
    """`port` if it is free on 127.0.0.1, else the next free one. Raises ClipeduError if there is none."""
    if not 1 <= port <= 65_535:
        raise ClipeduError(f"port={port} must be between 1 and 65535")
    for candidate in range(port, min(port + PORTS_TRIED, 65_536)):
        try:
            socket.create_server(("127.0.0.1", candidate)).close()
        except OSError:
            continue
        return candidate
    raise ClipeduError(f"no port from {port} to {candidate} is free on this machine: give another --port")


def server_options(folder: Path, port: int, token: str, browser: bool) -> list[str]:
    """JupyterLab's arguments: this machine only, one folder, a token, and no question at Ctrl-C."""
    return [
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder.resolve()}",
        f"--LabApp.default_url=/lab/tree/{FIRST}",
        f"--ServerApp.open_browser={browser}",
        "--ServerApp.answer_yes=True",
        "--ServerApp.allow_root=True",
        "--Application.log_level=ERROR",
    ]


@dataclass(frozen=True)
class Finding:
    """One thing that `doctor` looked at: what was found, whether it is fine, and what to know or do."""

    what: str
    fine: bool
    note: str

    def __str__(self) -> str:
        return f"{'fine' if self.fine else 'MEND'}   {self.what:<24} {self.note}"


def doctor() -> None:
    """Print a line on Python, torch, the torch/torchvision pair, the device and the widgets: "fine", or "MEND" and how."""
    for finding in findings():
        print(finding)


def findings() -> list[Finding]:
    """What `doctor` prints."""
    wanted = (3, 10)
    python = Finding(f"Python {platform.python_version()}", sys.version_info >= wanted, sys.executable)
    return [python, _torch(), _torchvision(), _widgets()]


def _torch() -> Finding:
    import torch

    threads = f"{torch.get_num_threads()} of {os.cpu_count()} cores"
    note = torch.cuda.get_device_name() if torch.cuda.is_available() else f"no GPU: training runs on {threads}"
    return Finding(f"torch {torch.__version__}", True, note)


def _torchvision() -> Finding:
    """Whether torchvision imports, and was made for the torch that is installed."""
    needs = (Requirement(need) for need in metadata.requires("torchvision") or ())
    wanted = next((str(need.specifier) for need in needs if need.name == "torch"), "")
    try:
        import torchvision  # noqa: F401

        error = ""
    except (ImportError, RuntimeError) as problem:
        error = str(problem).splitlines()[0]
    return torch_pair(metadata.version("torch"), metadata.version("torchvision"), wanted, error)


def torch_pair(torch: str, torchvision: str, wanted: str, error: str = "") -> Finding:
    """Judge a pair of versions.

    torchvision's compiled part fits certain versions of torch only. With another it isn't loaded, and importing torchvision
    (or timm, which imports it) ends in "operator torchvision::nms does not exist".

    Args:
        torch, torchvision: installed versions.
        wanted: the versions of torch that this torchvision asks for, e.g. "==2.9.0" or ">=2.14.0"; "" if it doesn't say.
        error: what importing torchvision said; "" if it worked.
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
    """Judge ipywidgets (Python's half) and jupyterlab_widgets (the browser's half): 8 goes with 3. "" = not installed."""
    what = f"ipywidgets {back or 'missing'}"
    if back.startswith("8.") and front.startswith("3."):
        return Finding(what, True, f"with jupyterlab_widgets {front}")
    found = f"with jupyterlab_widgets {front or 'missing'}; 8 and 3 belong together"
    return Finding(what, False, f"{found}: pip install --upgrade ipywidgets, then restart JupyterLab")
