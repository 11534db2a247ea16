"""`clipedu lab`: copies of the notebooks, and a local JupyterLab.

    clipedu lab                     # copies the notebooks into clipedu-notebooks/ and opens JupyterLab there

Notebooks are copied once. A copy that exists is never overwritten, because you may have worked in it; delete or rename it
to get a new one. The server listens on 127.0.0.1 alone and requires a token that is new at each start.
"""

from __future__ import annotations

import importlib.util
import secrets
import shutil
import socket
from pathlib import Path

from clipedu.utils.errors import ClipeduError
from clipedu.utils.resources import shipped_notebooks

FIRST = "00_start_here.ipynb"
PORTS_TRIED = 50


def start_lab(folder: str | Path, *, port: int = 8888, browser: bool = True) -> None:
    """Copy the notebooks into `folder` and run JupyterLab there until Ctrl-C.

    Args:
        folder: where your copies are; made if it does not exist. Nothing outside of it is shown.
        port: where to listen on 127.0.0.1; if it is taken, the next free one.
        browser: open a browser on it; otherwise only print the address.

    Raises:
        ClipeduError: no JupyterLab, a folder that cannot be written to, or no free port.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise ClipeduError("the lab needs JupyterLab, which is not installed here: pip install jupyterlab ipywidgets")
    port, token = free_port(port), secrets.token_urlsafe(24)
    folder = Path(folder).expanduser()
    for line in copy_notebooks(folder):
        print(line)
    print(f"\nThe lab: http://127.0.0.1:{port}/lab/tree/{FIRST}?token={token}", flush=True)
    print("It takes some seconds to start. Ctrl-C here ends it; your notebooks stay.\n", flush=True)

    from jupyterlab.labapp import LabApp

    LabApp.launch_instance(argv=server_options(folder, port, token, browser))  # in this process: `ps` shows no token
    print(f"The lab is closed. Your notebooks are in {folder}/")


def copy_notebooks(folder: Path) -> list[str]:
    """Copy each notebook that is not in `folder`.

    Returns:
        one line a notebook: new or kept.

    Raises:
        ClipeduError: the folder cannot be made or written to.
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
            f"the notebooks cannot be copied to {folder}: {error.strerror}. Give another --folder"
        ) from None
    return lines


def free_port(port: int) -> int:
    """Return `port` if it is free on 127.0.0.1, else the next free one.

    Raises:
        ClipeduError: the port is out of range, or none of the next ones is free.
    """
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
    """Return JupyterLab's arguments.

    The server is for this machine only, and stops at Ctrl-C without confirmation.

    Args:
        folder: the only one that is shown.
        port: on 127.0.0.1.
        token: required of a browser.
        browser: open one.
    """
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
