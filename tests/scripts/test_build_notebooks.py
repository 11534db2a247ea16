"""Building the notebooks: two editions of one source, at two scales."""

import nbformat
import pytest

from tests.helpers.notebooks import NAMES, build

SOURCE = """# %% [markdown]
# Add.

# %% tags=["exercise"]
def add(a, b):
    ### BEGIN SOLUTION use the plus sign
    return a + b
    ### END SOLUTION


# %% tags=["check"]
check(add)

# %%
SIZE = 4000
# fast: SIZE = 10

# %% tags=["fast"]
press()
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "add.py"
    path.write_text(SOURCE)
    return path


def texts(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells]


def test_the_student_edition_has_a_stub_and_folds_the_solution_below_its_check(source):
    said, stub, check, folded, size = texts(build.student(source))
    assert said == "Add." and check == "check(add)" and size == "SIZE = 4000"
    assert stub == 'def add(a, b):\n    raise NotImplementedError("use the plus sign")'
    assert folded.startswith("<details>") and "def add(a, b):\n    return a + b\n```" in folded


def test_the_solved_edition_has_the_solution_in_place(source):
    assert texts(build.solved(source)) == ["Add.", "def add(a, b):\n    return a + b", "check(add)", "SIZE = 4000"]


def test_smoke_scale_has_its_own_lines_and_cells(source):
    assert texts(build.solved(source, fast=True))[-2:] == ["SIZE = 4000\nSIZE = 10", "press()"]


def test_cell_ids_are_numbers_and_a_rebuild_is_the_same_text(source):
    notebook = build.student(source)
    assert [cell.id for cell in notebook.cells] == ["0", "1", "2", "3", "4"]
    assert build.text_of(notebook) == build.text_of(build.student(source))


def test_the_command_writes_one_edition_of_the_named_notebooks(tmp_path, capsys):
    folder = tmp_path / "new" / "solved"
    build.main(["00_start_here", "--edition", "solved", "--fast", "--folder", str(folder)])
    assert [path.name for path in folder.iterdir()] == ["00_start_here.ipynb"]
    assert str(folder / "00_start_here.ipynb") in capsys.readouterr().out
    written = nbformat.read(folder / "00_start_here.ipynb", as_version=4)
    assert texts(written) == texts(build.solved(build.HOME / "source" / "00_start_here.py", fast=True))
    build.main(["--folder", str(tmp_path / "all")])
    assert sorted(path.stem for path in (tmp_path / "all").iterdir()) == NAMES


@pytest.mark.parametrize(
    "words, said",
    [
        (["00_start", "--folder", "x"], "no source named 00_start; there are 00_start_here"),
        (["--edition", "solved"], "give another --folder"),
        (["--fast"], "give another --folder"),
    ],
)
def test_wrong_words_are_refused_and_nothing_is_written(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        build.main(words)
    assert ended.value.code == 2 and said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_jupytext_the_message_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        build.main(["--folder", str(tmp_path / "x")])
    assert ended.value.code == 1 and "pip install jupytext" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
