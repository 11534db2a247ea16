"""Where shipped folders are found: in a package as a wheel installs it, and in a checkout."""

from pathlib import Path

import pytest

from clipedu.utils import resources
from clipedu.utils.errors import ClipeduError
from clipedu.utils.resources import shipped, shipped_notebooks


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "somewhere" / "clipedu"
    folder.mkdir(parents=True)
    monkeypatch.setattr(resources, "_PACKAGE", folder)
    return folder


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")


@pytest.mark.parametrize("name, pattern", [("data_manifests", "*.toml"), ("notebooks", "*.ipynb")])
def test_this_installation_has_its_folders(name, pattern):
    assert len(list(shipped(name).glob(pattern))) > 4


def test_in_a_wheel(package):
    put(package / "notebooks" / "00_start_here.ipynb")
    put(package.parent / "notebooks" / "another_package.py")  # in site-packages, which has no pyproject.toml
    assert shipped("notebooks") == package / "notebooks"


def test_in_a_checkout(package):
    put(package.parent / "pyproject.toml")
    put(package.parent / "notebooks" / "00_start_here.ipynb")
    assert shipped("notebooks") == package.parent / "notebooks"
    put(package / "notebooks" / "__pycache__" / "old.pyc")  # left by a version that had the folder inside
    put(package / "notebooks" / ".ipynb_checkpoints" / "old.ipynb")
    assert shipped("notebooks") == package.parent / "notebooks"


def test_a_folder_of_someone_else_is_not_taken(package):
    put(package.parent / "notebooks" / "another_package.py")
    with pytest.raises(ClipeduError, match="this installation of clipedu has no notebooks .*reinstall it"):
        shipped("notebooks")


def test_only_numbered_notebooks_in_order(package):
    for name in ("10_last.ipynb", "02_second.ipynb", "scratch.ipynb", "00_first.py"):
        put(package / "notebooks" / name)
    assert [path.name for path in shipped_notebooks()] == ["02_second.ipynb", "10_last.ipynb"]
