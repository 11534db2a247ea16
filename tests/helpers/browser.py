"""A notebook in a real browser: JupyterLab is started on it, Chromium opens it and runs it.

    with browser.page(notebook, "masks") as page:    # `browser`: a fixture of tests/browser
        run_all(page, pictures=1)
        ...

Three races are dealt with here. A port: each lab takes a free one. "Run all" can be lost while the kernel already looks idle:
it is pressed again until the first cell has a number. And a wait inside the page can miss a page that has stopped to
change: `until` asks from outside, four times a second.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.notebooks import build

PATIENCE = 240  # seconds: a run of all cells on two busy cores
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight stay in the page
}
PICTURE = ".jp-OutputArea .widget-image"


def accept_dialog(dialog) -> None:
    """Press the default button of a dialog that JupyterLab has put over the page."""
    dialog.locator(".jp-mod-accept").first.click()


@dataclass
class Browser:
    """Chromium, and a JupyterLab on a folder of its own: both are started once for many notebooks."""

    chromium: Any
    lessons: Path
    address: str  # of the first notebook, with the token

    @contextmanager
    def page(self, notebook, name: str, *, height: int = 900):
        """The page of a notebook, its kernel idle; the kernel ends with it. With CLIPEDU_SCREENSHOTS, a folder, a picture is kept."""
        (self.lessons / f"{name}.ipynb").write_text(build.text_of(notebook))
        context = self.chromium.new_context(viewport={"width": 1280, "height": height})
        try:
            page = context.new_page()
            page.add_locator_handler(
                page.locator(".jp-Dialog"), accept_dialog
            )  # e.g. which kernel: it would catch the clicks
            page.set_default_timeout(1000 * PATIENCE)
            page.goto(self.address.replace("00_start_here.ipynb", f"{name}.ipynb") + "&reset")
            page.wait_for_selector(".jp-Notebook .jp-Cell")
            page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
            yield page
            if shots := os.environ.get("CLIPEDU_SCREENSHOTS"):
                page.screenshot(path=f"{shots}/{name}.png")
        finally:
            context.close()
            for session in json.loads(self.ask("api/sessions")):
                self.ask(f"api/sessions/{session['id']}", "DELETE")

    def ask(self, what: str, method: str = "GET") -> bytes:
        """Ask the lab's server."""
        url = re.sub(r"lab/tree/[^?]*", what, self.address)
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=60) as answer:
            return answer.read()


@contextmanager
def started(scratch: Path):
    """A browser and a lab."""
    path = find_chromium()
    from playwright.sync_api import sync_playwright

    lessons = scratch / "lessons"
    lessons.mkdir()
    lab, address = start(lessons, scratch)
    try:
        with sync_playwright() as p:
            chromium = p.chromium.launch(executable_path=path, args=FLAGS.split())
            browser = Browser(chromium, lessons, address)
            wait_for(lambda: browser.ask("api/status"))
            yield browser
            chromium.close()
    finally:
        lab.terminate()
        lab.wait(30)


def until(page, holds) -> None:
    """Wait until `holds()`."""
    for _ in range(4 * PATIENCE):
        if holds():
            return
        page.wait_for_timeout(250)
    raise AssertionError(f"the page did not get there: {page.inner_text('.jp-Notebook')[:2000]}")


def run_all(page, pictures: int = 1) -> None:
    """Run all cells, and wait until this many widgets with a picture are there."""

    def shown() -> bool:
        if page.locator(PICTURE).count() == pictures:
            return True
        idle = page.get_attribute(".jp-Notebook-ExecutionIndicator", "data-status") == "idle"
        prompts = page.locator(".jp-CodeCell .jp-InputArea-prompt").all_inner_texts()
        if idle and any("[ ]" in prompt for prompt in prompts) and not any("[*]" in prompt for prompt in prompts):
            page.click(".jp-Notebook .jp-Cell >> nth=0")  # JupyterLab can lose "Run all", also halfway
            page.click('div.lm-MenuBar-itemLabel:text-is("Run")')
            page.click('li.lm-Menu-item[data-command="runmenu:run-all"]')
            page.wait_for_timeout(2000)
        return False

    until(page, shown)


def changed(page, do) -> None:
    """Do something, and wait until the widget's picture is another one."""
    before = page.get_attribute(PICTURE, "src")
    do()
    until(page, lambda: page.get_attribute(PICTURE, "src") != before)


def says(page, text: str) -> None:
    """Wait until the notebook shows this text."""
    until(page, lambda: text in page.inner_text(".jp-Notebook"))


def find_chromium() -> str:
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs: pip install playwright")
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    with playwright.sync_playwright() as p:
        if Path(p.chromium.executable_path).exists():
            return p.chromium.executable_path
    pytest.skip("the browser test needs chromium: apt-get install chromium, or playwright install chromium")


def start(folder: Path, scratch: Path) -> tuple[subprocess.Popen, str]:
    """A lab on `folder` with settings of its own, and its address."""
    for name, values in SETTINGS.items():
        settings = scratch / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        settings.parent.mkdir(parents=True)
        settings.write_text(json.dumps(values))
    homes = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
             "IPYTHONDIR": "ipython", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "JUPYTERLAB_SETTINGS_DIR": "settings"}  # fmt: skip
    here = Path(__file__).resolve().parents[2]
    env = os.environ | {key: str(scratch / name) for key, name in homes.items()}
    env |= {"PYTHONPATH": str(here), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "clipedu", "lab", "--folder", str(folder), "--port", free_port(), "--no-browser"]
    lab = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, cwd=scratch)
    for line in lab.stdout:
        if found := re.search(r"http://\S+", line):
            return lab, found[0]
    raise AssertionError(f"the lab ended with {lab.wait()} before it said its address")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def wait_for(answer: Callable[[], bytes]) -> None:
    for _ in range(240):
        try:
            answer()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError("the lab's server does not answer")
