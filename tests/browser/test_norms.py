"""The norms' lab as a student meets it: in a browser, the walk is changed and the picture follows."""

import re

import pytest

from tests.helpers.browser import changed, run_all, says
from tests.helpers.notebooks import build, source_of

KEPT = re.compile(r"^from clipedu.widgets.norms", re.MULTILINE)
pytestmark = pytest.mark.xdist_group("browser")


def test_a_walk_is_changed_in_the_browser(browser):
    notebook = build.student(source_of("08_norm_dynamics"))
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code" and KEPT.search(cell.source)]
    assert len(notebook.cells) == 1
    with browser.page(notebook, "norms", height=1300) as page:
        run_all(page)
        says(page, "Lambda = 2 * (sum of shrinks)")
        changed(page, lambda: page.select_option(".widget-dropdown select >> nth=0", "corrected"))
        says(page, "law='corrected'")
        page.locator(".noUi-handle").nth(1).focus()
        changed(page, lambda: page.keyboard.press("ArrowRight"))
        says(page, "weight_decay=1.0")
        changed(page, lambda: page.select_option(".widget-dropdown select >> nth=2", "sign"))
        says(page, "sandbox('sign'")
        changed(page, lambda: page.select_option(".widget-dropdown select >> nth=4", "cos(w, u)"))
        says(page, "plot_walk(walk, 'cosine')")
