"""Make the notebooks from their sources: `python tools/build_notebooks.py`. One source, two forms.

    notebooks/source/NAME.py  (jupytext, py:percent)
        -> notebooks/NAME.ipynb          the student form, committed: stubs, solutions folded away, no outputs
        -> solved(source)                the solved form, made when it is tested: each stub replaced by its solution

Markup of a source, beside jupytext's own:

    # %% tags=["exercise"]               a cell with a function whose body holds, between two lines,
        ### BEGIN SOLUTION hint          the solution; the student form raises NotImplementedError(hint) in its place
        ### END SOLUTION
    # %% tags=["check"]                  the cell that checks it; the student form folds the solution in below it
    # fast: CODE                         a line that only `fast=True` has: it makes the notebook small enough for a test
    # %% tags=["fast"]                   a cell that only `fast=True` has, e.g. one that presses a widget's button

Cell ids are the cells' numbers, so that a rebuild changes nothing that did not change.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import jupytext
import nbformat

HOME = Path(__file__).resolve().parent.parent / "notebooks"
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION *(.*)\n((?:.*\n)*?) *### END SOLUTION *$", re.MULTILINE)
FAST = re.compile(r"^( *)# fast: (.*)\n?", re.MULTILINE)
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def sources() -> list[Path]:
    return sorted((HOME / "source").glob("*.py"))


def student(source: Path, *, fast: bool = False) -> nbformat.NotebookNode:
    """The form that a learner gets: each solution is a stub, and is folded away below its check."""
    cells, solution = [], ""
    for cell in _cells(source, fast):
        tags = cell.metadata.get("tags", [])
        if "exercise" in tags:
            solution = SOLUTION.sub(r"\3", cell.source).replace("\n\n\n", "\n\n").rstrip()
            cell.source = SOLUTION.sub(lambda found: f'{found[1]}raise NotImplementedError("{found[2]}")', cell.source)
        cells.append(cell)
        if "check" in tags:
            folded = f"<details><summary>Solution (try first)</summary>\n\n```python\n{solution}\n```\n\n</details>"
            cells.append(nbformat.v4.new_markdown_cell(folded))
    return _notebook(cells)


def solved(source: Path, *, fast: bool = False) -> nbformat.NotebookNode:
    """The form that a test runs: each stub replaced by its solution."""
    cells = _cells(source, fast)
    for cell in cells:
        cell.source = SOLUTION.sub(r"\3", cell.source).replace("\n\n\n", "\n\n")
    return _notebook(cells)


def text_of(notebook: nbformat.NotebookNode) -> str:
    """The notebook as the text of its file."""
    return nbformat.writes(notebook) + "\n"


def _cells(source: Path, fast: bool) -> list[nbformat.NotebookNode]:
    cells = []
    for cell in jupytext.read(source, fmt="py:percent").cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        cell.source = FAST.sub(r"\1\2\n" if fast else "", cell.source).rstrip("\n")
        if fast or "fast" not in tags:
            cells.append(cell)
    return cells


def _notebook(cells: list[nbformat.NotebookNode]) -> nbformat.NotebookNode:
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:03d}"
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=nbformat.from_dict(METADATA))
    nbformat.validate(notebook)
    return notebook


def main(arguments: list[str]) -> None:
    """Write the student form of every source (or of those whose names are given)."""
    for source in sources():
        if not arguments or source.stem in arguments:
            target = HOME / f"{source.stem}.ipynb"
            target.write_text(text_of(student(source)), encoding="utf-8")
            print(target)


if __name__ == "__main__":
    main(sys.argv[1:])
