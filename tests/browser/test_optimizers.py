"""The optimizers' lab as a student meets it: in a browser, optimizers are chosen, sliders turned, and the picture follows."""

import re

import pytest

from tests.helpers.browser import changed, run_all, says
from tests.helpers.notebooks import build, source_of

KEPT = re.compile(r"^from clipedu.widgets.optimizers", re.MULTILINE)
pytestmark = pytest.mark.xdist_group("browser")


def test_optimizers_are_compared_in_the_browser(browser):
    notebook = build.student(source_of("04_optimizers"))
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code" and KEPT.search(cell.source)]
    with browser.page(notebook, "optimizers", height=1300) as page:
        run_all(page)
        says(page, "coupled L2")
        page.locator('.noUi-handle, .widget-slider input, [role="slider"]').first.wait_for()
        changed(page, lambda: page.select_option(".widget-select-multiple select", ["adamw", "scion"]))
        says(page, "'scion': descend('scion', lr=0.1")
        assert "coupled L2" not in page.inner_text(".jp-Notebook")
        changed(page, lambda: page.select_option(".widget-dropdown select >> nth=0", "independent"))
        says(page, "decay_law='independent'")
        page.locator(".noUi-handle").first.focus()
        changed(page, lambda: page.keyboard.press("ArrowRight"))
        says(page, "lr=0.2")
