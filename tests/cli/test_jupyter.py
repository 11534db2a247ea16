"""The lab: copying, the doctor's verdicts, and a real JupyterLab, started, asked and stopped."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from clipedu.cli import jupyter as lab
from clipedu.utils.errors import ClipeduError

CHECKOUT = Path(__file__).resolve().parents[2]


def test_copies_the_notebooks_and_nothing_else(tmp_path):
    folder = tmp_path / "a" / "b"
    lines = lab.copy_notebooks(folder)
    names = sorted(path.name for path in folder.iterdir())
    assert "00_start_here.ipynb" in names and "05_train.ipynb" in names
    assert names == [path.name for path in lab.shipped_notebooks()]
    assert [line.split()[0] for line in lines] == ["new"] * len(names)


def test_what_is_there_is_never_touched(tmp_path):
    lab.copy_notebooks(tmp_path)
    mine, theirs = tmp_path / "00_start_here.ipynb", tmp_path / "05_train.ipynb"
    mine.write_text("my work")
    lines = lab.copy_notebooks(tmp_path)
    assert mine.read_text() == "my work"
    by_name = {Path(line.split()[1]).name: line for line in lines}
    assert "yours" in by_name[mine.name] and "yours" not in by_name[theirs.name]
    assert all(line.startswith("kept") for line in lines)
    mine.unlink()
    assert [line.split()[0] for line in lab.copy_notebooks(tmp_path)].count("new") == 1
    assert json.loads(mine.read_text())["nbformat"] == 4


def test_a_folder_that_is_a_file_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ClipeduError, match="cannot be copied to .*file: .*--folder") as told:
        lab.copy_notebooks(tmp_path / "file")
    assert "\n" not in str(told.value)


def test_a_taken_port_gives_the_next_free_one():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = lab.free_port(port)
        assert port < found < port + lab.PORTS_TRIED
        socket.create_server(("127.0.0.1", found)).close()


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_out_of_range_is_told(port):
    with pytest.raises(ClipeduError, match=f"port={port} must be between 1 and 65535"):
        lab.free_port(port)


def test_no_free_port_is_told(monkeypatch):
    def taken(*_):
        raise OSError("in use")

    monkeypatch.setattr(socket, "create_server", taken)
    with pytest.raises(ClipeduError, match="no port from 65530 to 65535 is free"):
        lab.free_port(65_530)


def test_without_jupyterlab_the_remedy_is_told_and_nothing_is_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ClipeduError, match="pip install jupyterlab"):
        lab.start_lab(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def hear_ctrl_c():
    """A shell's background job is deaf to SIGINT, and so are its children: the lab under test must not inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def server(tmp_path):
    """A lab started from the command line: its process and its address."""
    pytest.importorskip("jupyterlab", reason="the lab needs: pip install jupyterlab")
    homes = {key: str(tmp_path / key) for key in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    env = os.environ | homes | {"PYTHONPATH": str(CHECKOUT)}
    command = [
        sys.executable,
        "-m",
        "clipedu",
        "lab",
        "--folder",
        str(tmp_path / "mine"),
        "--port",
        "8970",
        "--no-browser",
    ]
    process = subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        preexec_fn=hear_ctrl_c,
    )
    address = next((found[0] for line in process.stdout if (found := re.search(r"http://\S+", line))), None)
    assert address, "the lab ended before it said its address"
    yield process, address
    process.kill()
    process.wait()


def test_the_lab_serves_this_folder_with_a_token_until_ctrl_c(server, tmp_path):
    process, address = server
    base, token = re.fullmatch(
        r"(http://127\.0\.0\.1:\d+)/lab/tree/00_start_here\.ipynb\?token=([\w-]{20,})", address
    ).groups()
    wait_until_up(f"{base}/api/status?token={token}")
    listing = json.load(urllib.request.urlopen(f"{base}/api/contents?token={token}", timeout=30))
    assert {"00_start_here.ipynb", "05_train.ipynb"} <= {item["name"] for item in listing["content"]}
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{base}/api/contents", timeout=30)
    assert refused.value.code == 403
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "The lab is closed" in rest
    assert "Traceback" not in rest and token not in rest


def wait_until_up(status: str) -> None:
    for _ in range(240):
        try:
            assert urllib.request.urlopen(status, timeout=5).status == 200
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError("the lab did not come up within two minutes")
