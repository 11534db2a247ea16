"""Build the notebooks from their sources. One source, two editions.

    python scripts/build_notebooks.py                                              # all student notebooks, into notebooks/
    python scripts/build_notebooks.py 02_losses --edition solved --folder solved   # one, with its solutions filled in

    notebooks/source/NAME.py  (jupytext, py:percent)
        -> student: notebooks/NAME.ipynb, committed: stubs, solutions folded away, no outputs
        -> solved: each stub replaced by its solution; the tests run it (with --fast, at smoke scale)

Markup of a source, beside jupytext's own:

    # %% tags=["exercise"]               a cell with a function whose body holds, between two lines,
        ### BEGIN SOLUTION hint          the solution; the student edition raises NotImplementedError(hint) in its place
        ### END SOLUTION
    # %% tags=["check"]                  the cell that checks it; the student edition folds the solution in below it
    # fast: CODE                         a line that only `fast=True` has: it makes the notebook small enough for a test
    # %% tags=["fast"]                   a cell that only `fast=True` has, e.g. one that presses a widget's button

Cell ids are the cells' numbers, as nbstripout writes them: a rebuild changes nothing that did not change.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
from pathlib import Path

import nbformat

HOME = Path(__file__).resolve().parent.parent / "notebooks"
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION *(.*)\n((?:.*\n)*?) *### END SOLUTION *$", re.MULTILINE)
FAST = re.compile(r"^( *)# fast: (.*)\n?", re.MULTILINE)
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def sources() -> list[Path]:
    """List the sources, in the order of their numbers."""
    return sorted((HOME / "source").glob("*.py"))


def student(source: Path, *, fast: bool = False) -> nbformat.NotebookNode:
    """Build the edition of a learner: a stub for each solution, the solution folded away below its check."""
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
    """Build the edition that a test runs: each stub replaced by its solution."""
    cells = _cells(source, fast)
    for cell in cells:
        cell.source = SOLUTION.sub(r"\3", cell.source).replace("\n\n\n", "\n\n").rstrip("\n")
    return _notebook(cells)


def text_of(notebook: nbformat.NotebookNode) -> str:
    """Return the notebook as the text of its file."""
    return nbformat.writes(notebook) + "\n"


def _cells(source: Path, fast: bool) -> list[nbformat.NotebookNode]:
    import jupytext

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
        cell.id = str(number)
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=nbformat.from_dict(METADATA))
    nbformat.validate(notebook)
    return notebook


EDITIONS = {"student": student, "solved": solved}


def main(arguments: list[str] | None = None) -> None:
    """Write one edition of every source (or of those whose names are given)."""
    names = [source.stem for source in sources()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which notebooks, of {', '.join(names)}; default: all"
    )
    parser.add_argument("--edition", choices=EDITIONS, default="student", help="default: student")
    parser.add_argument("--folder", type=Path, default=HOME, help="where to write; default: notebooks/")
    parser.add_argument("--fast", action="store_true", help="smoke scale: with the '# fast:' lines and cells")
    args = parser.parse_args(arguments)
    if unknown := set(args.names).difference(names):
        parser.error(f"no source named {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if args.folder.resolve() == HOME and (args.fast or args.edition != "student"):
        parser.error("notebooks/ holds the student edition at full scale: give another --folder")
    if importlib.util.find_spec("jupytext") is None:
        parser.exit(1, "building the notebooks needs jupytext, which is not installed here: pip install jupytext\n")
    args.folder.mkdir(parents=True, exist_ok=True)
    for source in sources():
        if not args.names or source.stem in args.names:
            target = args.folder / f"{source.stem}.ipynb"
            target.write_text(text_of(EDITIONS[args.edition](source, fast=args.fast)), encoding="utf-8")
            print(target)


if __name__ == "__main__":
    main()
