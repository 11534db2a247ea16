"""The notebooks of this checkout: their sources, their cells, and a run under `pytest --nbmake`."""

import re
from pathlib import Path

import nbformat
import pytest

from tests.helpers.processes import environment, load_script, run_python

CELL_SECONDS = 240  # the limit of a cell; a slow one takes 30 on two busy cores

for package in ("jupytext", "ipykernel", "nbmake", "nbstripout"):
    pytest.importorskip(package, reason=f"the notebooks' tests need {package}: pip install 'clipedu[test]'")

build = load_script("build_notebooks")
NAMES = [source.stem for source in build.sources()]


def source_of(name: str) -> Path:
    return build.HOME / "source" / f"{name}.py"


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def shows_a_plot(cell) -> bool:
    """Whether the cell's code is one that draws."""
    return re.search(r"^plots\.|subplots\(", cell.source, re.MULTILINE) is not None


def text_shown(cell) -> str:
    """The value of the cell's last line."""
    return "".join(output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def run_with_nbmake(notebook, folder: Path, cell_seconds: int = CELL_SECONDS):
    """Run all cells in `folder` under `pytest --nbmake`; returns the notebook with its outputs.

    A pytest of its own: what a reader types, and a failure prints its cell and its traceback.
    """
    path = folder / "lesson.ipynb"
    path.write_text(build.text_of(notebook), encoding="utf-8")
    plugins = ["-p", "nbmake.pytest_plugin", "-p", "tests.helpers.patient_channel", "-p", "no:cacheprovider"]
    options = ["--nbmake", "--overwrite", f"--nbmake-timeout={cell_seconds}", "-o", "addopts=", "-q", *plugins]
    settings = environment(OMP_NUM_THREADS="1", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")  # others only cost time
    done = run_python("-m", "pytest", *options, path, cwd=folder, env=settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return nbformat.read(path, as_version=4)
