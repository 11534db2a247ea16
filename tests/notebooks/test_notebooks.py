"""The notebooks: built files follow their sources, the style rules hold, stubs teach, and the solved forms run."""

import ast
import re

import nbformat
import pytest

from tests.helpers.notebooks import (
    NAMES,
    build,
    code_cells,
    run_with_nbmake,
    shows_a_plot,
    source_of,
    tags,
    text_shown,
)
from tests.helpers.processes import run_python

each_notebook = pytest.mark.parametrize("name", NAMES)


def test_there_are_notebooks():
    assert {"00_start_here", "05_train"} <= set(NAMES)
    assert sorted(path.stem for path in build.HOME.glob("*.ipynb")) == NAMES


@each_notebook
def test_built_notebook_is_what_its_source_says(name):
    built = (build.HOME / f"{name}.ipynb").read_text(encoding="utf-8")
    assert built == build.text_of(build.student(source_of(name))), "run: python scripts/build_notebooks.py"


def test_committed_notebooks_are_stripped(tmp_path):
    """No outputs, counts, widget state or odd ids: the pre-commit hook has nothing to do."""
    hooks = (build.HOME.parent / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    command = re.search(r"^ +entry: (nbstripout .*)$", hooks, re.MULTILINE)[1].split()
    done = run_python("-m", *command, *(build.HOME / f"{name}.ipynb" for name in NAMES))
    assert done.returncode == 0, done.stdout + done.stderr


@each_notebook
def test_file_holds_the_student_edition(name):
    notebook = build.nbformat.read(build.HOME / f"{name}.ipynb", as_version=4)
    build.nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in code_cells(notebook):
        assert "SOLUTION" not in cell.source and "# fast:" not in cell.source and "fast" not in tags(cell)


@each_notebook
def test_cells_are_short_and_explained(name):
    notebook = build.student(source_of(name))
    lengths = [len([line for line in cell.source.splitlines() if line.strip()]) for cell in code_cells(notebook)]
    assert max(lengths) <= 25
    assert sum(length > 12 for length in lengths) <= 1
    assert max(len(line) for cell in code_cells(notebook) for line in cell.source.splitlines()) <= 103
    solved = code_cells(build.solved(source_of(name)))
    lines = sum(bool(line.strip()) for cell in solved for line in cell.source.splitlines())
    prose = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    prose = re.sub(r"<details>.*?</details>|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", " ", prose, flags=re.DOTALL)
    words = len(re.findall(r"[A-Za-z][\w'-]*", prose))
    assert 5 <= words / lines <= 9, f"{words} words for {lines} lines of code"


@each_notebook
def test_first_cell_says_what_it_costs(name):
    first = build.student(source_of(name)).cells[0].source
    for word in ("you can", "Time", "CPU", "GPU", "Disk", "Download", "Before this"):
        assert word in first


@each_notebook
def test_every_plot_says_beforehand_what_to_see(name):
    cells = build.student(source_of(name)).cells
    for before, cell in zip(cells, cells[1:], strict=False):
        if cell.cell_type == "code" and shows_a_plot(cell):
            earlier = before if before.cell_type == "markdown" else cells[cells.index(before) - 1]
            assert "you should see" in earlier.source.lower() or "nearly always" in earlier.source, cell.source


def exercises(name: str) -> list[tuple[str, str, str]]:
    """Stub, solution and check of each exercise: the code of its cells."""
    student, solved = code_cells(build.student(source_of(name))), code_cells(build.solved(source_of(name)))
    places = [place for place, cell in enumerate(student) if "exercise" in tags(cell)]
    checks = [next(cell.source for cell in student[place:] if "check" in tags(cell)) for place in places]
    return [(student[p].source, solved[p].source, check) for p, check in zip(places, checks, strict=True)]


ALL_EXERCISES = [(name, number) for name in NAMES for number in range(len(exercises(name)))]


@pytest.mark.parametrize("name, number", ALL_EXERCISES)
def test_stub_teaches_and_solution_passes(name, number):
    stub, solution, check = exercises(name)[number]
    verdict = run_check(stub, check)
    assert not verdict.passed and "still the stub" in verdict.message
    assert len(verdict.message.split("stub. ")[1].split()) >= 8  # the hint
    assert run_check(solution, check).passed


def run_check(answer: str, check: str):
    *lines, last = ast.parse(check).body
    names: dict = {}
    exec("import math, torch", names)
    exec(answer, names)
    exec(ast.unparse(ast.Module(lines, [])), names)
    return eval(ast.unparse(last), names)


@each_notebook
def test_every_exercise_is_announced_and_solved_below(name):
    cells = build.student(source_of(name)).cells
    checks = [place for place, cell in enumerate(cells) if "check" in tags(cell)]
    announced = [cell.source for cell in cells if re.search(r"^### Exercise \d", cell.source, re.MULTILINE)]
    assert len(checks) == len(announced) > 0
    for text in announced:
        assert re.search(r"### Exercise \d: .*\((easy|medium|hard), (very )?important, \d+ minutes\)", text)
    for place in checks:
        assert cells[place + 1].source.startswith("<details>")


FEW = """from clipedu.data.scenes.sampling import SPLITS
SPLITS |= {"val": 200, "zeroshot": 200}  # to score on, where a thousand of each would only take time"""


@each_notebook
def test_solved_notebook_runs(name, tmp_path):
    notebook = build.solved(source_of(name), fast=True)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FEW))
    notebook = run_with_nbmake(notebook, tmp_path)
    for cell in code_cells(notebook):
        if "check" in tags(cell):
            assert text_shown(cell).startswith("Right: "), text_shown(cell)
        if shows_a_plot(cell):
            assert any("image/png" in output.get("data", {}) for output in cell.outputs), cell.source
    assert any((tmp_path / "runs").glob("*/report.html"))


LESSON = """# %%
import time

# %%
time.sleep({seconds})

# %%
print("sum:", {code})
"""


@pytest.mark.parametrize(
    "seconds, code, said",
    [(0, "1 + wrong", "NameError.*name 'wrong' is not defined"), (60, "1", "cell timed out")],
    ids=["error", "timeout"],
)
def test_a_bad_cell_fails_with_its_reason(tmp_path, seconds, code, said):
    source = tmp_path / "lesson.py"
    source.write_text(LESSON.format(seconds=seconds, code=code))
    with pytest.raises(AssertionError, match=said):
        run_with_nbmake(build.solved(source), tmp_path, cell_seconds=3)
