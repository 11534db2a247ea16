"""The notebooks: built files follow their sources, the style rules hold, stubs teach, and the solved forms run."""

import ast
import asyncio
import importlib.util
import re
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext", reason="the notebooks are built with jupytext: pip install jupytext")

TOOL = Path(__file__).resolve().parents[2] / "scripts" / "build_notebooks.py"
spec = importlib.util.spec_from_file_location("build_notebooks", TOOL)
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

NAMES = [source.stem for source in build.sources()]
each_notebook = pytest.mark.parametrize("name", NAMES)


def source_of(name: str) -> Path:
    return build.HOME / "source" / f"{name}.py"


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def test_there_are_notebooks():
    assert {"00_start_here", "05_train"} <= set(NAMES)
    assert sorted(path.stem for path in build.HOME.glob("*.ipynb")) == NAMES


@each_notebook
def test_built_notebook_is_what_its_source_says(name):
    built = (build.HOME / f"{name}.ipynb").read_text(encoding="utf-8")
    assert built == build.text_of(build.student(source_of(name))), "run: python tools/build_notebooks.py"


@each_notebook
def test_file_is_clean(name):
    notebook = build.nbformat.read(build.HOME / f"{name}.ipynb", as_version=4)
    build.nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) == {"kernelspec", "language_info"}  # no widget state
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    for cell in code_cells(notebook):
        assert cell.outputs == [] and cell.execution_count is None
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
        if cell.cell_type == "code" and re.search(r"^plots\.|subplots\(", cell.source, re.MULTILINE):
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


@each_notebook
def test_solved_notebook_runs(name, tmp_path, monkeypatch):
    pytest.importorskip("ipykernel", reason="notebooks need ipykernel: pip install jupyterlab")
    notebook = execute(build.solved(source_of(name), fast=True), tmp_path, monkeypatch)
    for cell in code_cells(notebook):
        if "check" in tags(cell):
            assert shown(cell).startswith("Right: "), shown(cell)
        if re.search(r"^plots\.|subplots\(", cell.source, re.MULTILINE):
            assert any("image/png" in output.get("data", {}) for output in cell.outputs), cell.source
    assert any((tmp_path / "runs").glob("*/report.html"))


def shown(cell) -> str:
    return "".join(output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def execute(notebook, folder: Path, monkeypatch):
    """Run all cells in `folder` with a kernel of this Python."""
    from nbclient import NotebookClient

    monkeypatch.setattr("jupyter_client.channels.AsyncZMQSocketChannel.get_msg", get_msg_in_slices)
    monkeypatch.setenv("PYTHONPATH", str(TOOL.parent.parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    return client.execute()


async def get_msg_in_slices(self, timeout=None):
    """As AsyncZMQSocketChannel.get_msg, but polling in slices of a second: nbclient can lose the wake-up of one long poll
    when another task writes to the same socket (its issue 312), and then waits until the cell's time is up."""
    from queue import Empty

    from jupyter_client.utils import ensure_async

    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    while True:
        left = 1.0 if deadline is None else min(1.0, max(0.0, deadline - loop.time()))
        if await ensure_async(self.socket.poll(1000 * left)):
            _, message = self.session.feed_identities(await ensure_async(self.socket.recv_multipart()))
            return self.session.deserialize(message)
        if deadline is not None and loop.time() >= deadline:
            raise Empty
