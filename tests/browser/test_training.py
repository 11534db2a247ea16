"""The lab as a student meets it: a browser opens 05_train in JupyterLab, runs it, chooses another loss and trains."""

import pytest

from tests.helpers.browser import PICTURE, changed, run_all, until
from tests.helpers.notebooks import build, source_of

pytestmark = pytest.mark.xdist_group("browser")  # one browser at a time


def test_lab_trains_in_the_browser(browser):
    notebook = build.student(source_of("05_train"), fast=True)
    notebook.cells = [cell for cell in notebook.cells if "fast" not in cell.metadata.get("tags", [])]
    with browser.page(notebook, "training") as page:
        run_all(page)
        page.locator(PICTURE).scroll_into_view_if_needed()
        page.select_option(".widget-dropdown select >> nth=0", "cyclip")
        until(
            page, lambda: page.locator("code:has-text(\"loss='cyclip'\")").count() > 0
        )  # the recipe follows the choice
        changed(page, lambda: page.click('button.widget-button:has-text("Train")'))
