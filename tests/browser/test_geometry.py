"""The geometry lab as a student meets it: in a browser, another space and another image show another walk."""

import nbformat
import pytest

from tests.helpers.browser import changed, run_all, says
from tests.helpers.notebooks import build

pytestmark = pytest.mark.xdist_group("browser")

CELLS = [
    """import clipedu
from clipedu.widgets.geometry import GeometryLab
from clipedu.evaluation.embedding_space import embed_space
from clipedu.training import load_training_data, prepare

pairs = clipedu.load_pairs("scenes", "val", size=12)
base = clipedu.Experiment(train_size=64, batch_size=16, embedding_dim=16)
spaces = {}
for name in ("cosine", "lorentz"):
    experiment = base.replace(geometry=name)
    spaces[name] = embed_space(prepare(experiment, load_training_data(experiment)).model, pairs)""",
    "GeometryLab(spaces, pairs)",
]


def test_a_walk_is_chosen_in_the_browser(browser):
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=build.METADATA)
    with browser.page(notebook, "geometry", height=1100) as page:
        run_all(page)
        choose_a_walk(page)


def choose_a_walk(page) -> None:
    says(page, "This geometry has no cones")
    says(page, "walk(spaces['cosine'], 0)")
    changed(page, lambda: page.select_option(".widget-dropdown select", "lorentz"))
    says(page, "walk(spaces['lorentz'], 0)")
    page.locator(".noUi-handle").nth(0).focus()
    changed(page, lambda: page.keyboard.press("ArrowRight"))
    says(page, "walk(spaces['lorentz'], 1)")
    page.locator(".noUi-handle").nth(1).focus()
    page.keyboard.press("ArrowRight")
    says(page, "walk(spaces['lorentz'], 1, min_radius=0.01)")
