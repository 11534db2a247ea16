"""The losses' lab as a student meets it: in a browser, the batch is edited and the picture follows."""

import os
import re

from test_browser import FLAGS, PATIENCE, find_chromium, open_notebook, run_all, start
from test_notebooks import build, source_of

from clipedu import LOSSES

KEPT = re.compile(r"^(import math|Markdown\(|from clipedu.loss_lab)", re.MULTILINE)


def test_a_batch_is_edited_in_the_browser(tmp_path):
    chromium = find_chromium()
    from playwright.sync_api import sync_playwright

    folder = tmp_path / "lessons"
    folder.mkdir()
    notebook = build.student(source_of("02_losses"))
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code" and KEPT.search(cell.source)]
    first, table, lab_cell = notebook.cells
    notebook.cells = [first, lab_cell, table]  # JupyterLab attaches only what is near the screen
    (folder / "02_losses.ipynb").write_text(build.text_of(notebook))
    lab, address = start(folder, tmp_path)
    try:
        with sync_playwright() as p:
            browser = p.chromium.launch(executable_path=chromium, args=FLAGS.split())
            page = browser.new_page(viewport={"width": 1280, "height": 1500})
            page.set_default_timeout(PATIENCE)
            open_notebook(page, address, "02_losses")
            run_all(page)
            edit_a_batch(page)
            until(page, lambda: page.locator(".jp-RenderedMarkdown mjx-container").count() == len(LOSSES))
            if shots := os.environ.get("CLIPEDU_SCREENSHOTS"):
                page.screenshot(path=f"{shots}/02_losses.png")
            browser.close()
    finally:
        lab.terminate()
        lab.wait(30)


def edit_a_batch(page) -> None:
    picture = page.locator(".jp-OutputArea .widget-image")
    until(page, lambda: picture.count() == 1)

    def changed(do) -> None:
        before = picture.get_attribute("src")
        do()
        until(page, lambda: picture.get_attribute("src") != before)

    def choose(number: int, name: str) -> None:
        page.select_option(f".widget-dropdown select >> nth={number}", name)

    def says(text: str) -> None:
        until(page, lambda: text in page.inner_text(".jp-Notebook"))

    changed(lambda: choose(0, "sogclr"))
    page.click('button.widget-button:has-text("Remember")')
    says("1 step(s) remembered")
    changed(lambda: choose(2, "blue star"))
    changed(lambda: choose(3, "white heart"))
    changed(lambda: page.click('button.widget-button:has-text("Swap captions")'))
    says("with_swapped_captions(S, 0, 1)")
    page.locator(".noUi-handle").nth(1).focus()
    changed(lambda: page.keyboard.press("ArrowRight"))
    says("with_similarity(S, 0, 1, 0.85)")


def until(page, holds) -> None:
    """Ask four times a second: a wait inside the page can miss a page that has stopped to change."""
    for _ in range(PATIENCE // 250):
        if holds():
            return
        page.wait_for_timeout(250)
    raise AssertionError("the page did not get there")
