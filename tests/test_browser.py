"""The lab as a student meets it: a browser opens 05_train in JupyterLab, runs it, chooses another loss and trains."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_notebooks import build, source_of

PATIENCE = 240_000  # ms: a run of all cells on two busy cores
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
NO_NEWS = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}


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
    settings = scratch / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(NO_NEWS))
    homes = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
             "IPYTHONDIR": "ipython", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "JUPYTERLAB_SETTINGS_DIR": "settings"}  # fmt: skip
    here = Path(__file__).resolve().parent.parent
    env = os.environ | {key: str(scratch / name) for key, name in homes.items()}
    env |= {"PYTHONPATH": str(here), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "clipedu", "lab", "--folder", str(folder), "--port", "8950", "--no-browser"]
    lab = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, cwd=scratch)
    for line in lab.stdout:
        if found := re.search(r"http://\S+", line):
            return lab, found[0]
    raise AssertionError(f"the lab ended with {lab.wait()} before it said its address")


def open_notebook(page, address: str, name: str) -> None:
    """Show the notebook, as soon as the server is up, and wait until its kernel is idle."""
    page.goto("about:blank")
    wait_for_server(address)
    page.goto(address.replace("00_start_here.ipynb", f"{name}.ipynb") + "&reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=PATIENCE)
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=PATIENCE)


def wait_for_server(address: str) -> None:
    import time
    import urllib.error
    import urllib.request

    status = re.sub(r"/lab/tree/[^?]*", "/api/status", address)
    for _ in range(240):
        try:
            urllib.request.urlopen(status, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"no answer from {status}")


def run_all(page) -> None:
    page.click(".jp-Notebook .jp-Cell >> nth=0")
    page.click('div.lm-MenuBar-itemLabel:text-is("Run")')
    page.click('li.lm-Menu-item[data-command="runmenu:run-all"]')


def test_lab_trains_in_the_browser(tmp_path):
    chromium = find_chromium()
    from playwright.sync_api import sync_playwright

    folder = tmp_path / "lessons"
    folder.mkdir()
    notebook = build.student(source_of("05_train"), fast=True)
    notebook.cells = [cell for cell in notebook.cells if "fast" not in cell.metadata.get("tags", [])]
    (folder / "05_train.ipynb").write_text(build.text_of(notebook))
    lab, address = start(folder, tmp_path)
    try:
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=chromium, args=FLAGS.split())
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(PATIENCE)
            open_notebook(page, address, "05_train")
            run_all(page)
            train_a_run(page)
            browser.close()
    finally:
        lab.terminate()
        lab.wait(30)


def train_a_run(page) -> None:
    picture = ".jp-OutputArea .widget-image"
    page.wait_for_selector(picture, state="attached")
    page.locator(picture).scroll_into_view_if_needed()
    before = page.get_attribute(picture, "src")
    page.select_option(".widget-dropdown select >> nth=0", "cyclip")
    page.wait_for_selector("code:has-text(\"loss='cyclip'\")")  # the recipe follows the choice
    page.click('button.widget-button:has-text("Train")')
    page.wait_for_function("([css, old]) => document.querySelector(css).src !== old", arg=[picture, before])
    page.wait_for_selector('.widget-html-content:has-text("Run 1 finished: TR@1")')
    assert page.locator('td:has-text("1: cyclip, adamw")').count() == 1
