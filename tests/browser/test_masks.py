"""The mask's lab as a student meets it: in a browser, grid, base and token are changed and the pictures follow."""

import re

import pytest

from tests.helpers.browser import changed, run_all, says
from tests.helpers.notebooks import build, source_of

KEPT = re.compile(r"^from clipedu.widgets.masks import MaskLab", re.MULTILINE)
pytestmark = pytest.mark.xdist_group("browser")


def test_a_mask_is_changed_in_the_browser(browser):
    notebook = build.student(source_of("09_registers_and_fractal_vit"))
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code" and KEPT.search(cell.source)]
    assert len(notebook.cells) == 1
    with browser.page(notebook, "masks", height=1500) as page:
        run_all(page, pictures=2)
        says(page, "345 of 441 pairs may attend, 78.2%")

        def press(slider: int, *keys: str) -> None:
            page.locator(".noUi-handle").nth(slider).focus()
            for key in keys:
                page.keyboard.press(key)

        press(0, "ArrowRight")
        says(page, "Bases that fit 5: 5. Grids that fit base 2: 2, 4, 8")
        says(page, "the picture shows the last choice that worked")
        changed(page, lambda: press(0, *["ArrowRight"] * 3))
        says(page, "4,825 of 7,225 pairs may attend")
        changed(page, lambda: page.select_option(".widget-dropdown select >> nth=1", "4 x 4"))
        changed(page, lambda: press(2, "End"))
        changed(page, lambda: press(3, "ArrowRight"))
        says(page, "token_at(8, 2, '4 x 4', 3, 3)")
        says(page, "4 x 4 token (3, 3) sees 22 tokens")
        changed(page, lambda: page.select_option(".widget-dropdown select >> nth=0", "2 blocks"))
        says(page, "plot_mask(8, 2, token, blocks=2)")
