"""The losses' lab as a student meets it: in a browser, the batch is edited and the picture follows."""

import re

import pytest

from clipedu import LOSSES
from tests.helpers.browser import changed, run_all, says, until
from tests.helpers.notebooks import build, source_of

KEPT = re.compile(r"^(import math|Markdown\(|from clipedu.widgets.losses)", re.MULTILINE)
pytestmark = pytest.mark.xdist_group("browser")


def test_a_batch_is_edited_in_the_browser(browser):
    notebook = build.student(source_of("02_losses"))
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code" and KEPT.search(cell.source)]
    first, table, lab_cell = notebook.cells
    notebook.cells = [first, lab_cell, table]  # JupyterLab attaches only what is near the screen
    with browser.page(notebook, "losses", height=1500) as page:
        run_all(page)
        edit_a_batch(page)
        until(page, lambda: page.locator(".jp-RenderedMarkdown mjx-container").count() == len(LOSSES))


def edit_a_batch(page) -> None:
    def choose(number: int, name: str) -> None:
        page.select_option(f".widget-dropdown select >> nth={number}", name)

    changed(page, lambda: choose(0, "sogclr"))
    page.click('button.widget-button:has-text("Remember")')
    says(page, "1 step(s) remembered")
    changed(page, lambda: choose(2, "blue star"))
    changed(page, lambda: choose(3, "white heart"))
    changed(page, lambda: page.click('button.widget-button:has-text("Swap captions")'))
    says(page, "with_swapped_captions(S, 0, 1)")
    page.locator(".noUi-handle").nth(1).focus()
    changed(page, lambda: page.keyboard.press("ArrowRight"))
    says(page, "with_similarity(S, 0, 1, 0.85)")
