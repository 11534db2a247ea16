"""The wheel: what is in it, that the source distribution builds the same one, and that it works away from the checkout."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="the wheel is built with hatchling: pip install -e '.[test]'")
pytest.importorskip("pip", reason="the wheel is built and installed with pip")

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.xdist_group("wheel")  # built once


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def build_wheel(tree: Path, folder: Path) -> Path:
    """The wheel of a source tree, built without a network."""
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", tree, *options, "--wheel-dir", folder, cwd=folder)
    (wheel,) = folder.glob("clipedu-*.whl")
    return wheel


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A fresh virtual environment with the wheel; what clipedu depends on comes from this Python, by a .pth file."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    options = ("--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")
    run(folder / "bin" / "python", "-m", "pip", "install", *options, wheel, cwd=folder)
    return folder


def test_holds_the_package_the_manifests_and_the_notebooks(wheel):
    """Every file of the tree by pattern: no list to forget an entry of. Sources of notebooks are for contributors."""
    names = {name for name in contents(wheel) if not name.startswith("clipedu-")}
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "clipedu").rglob("*.py")} | {"clipedu/py.typed"}
    expected |= {f"clipedu/data_manifests/{path.name}" for path in (ROOT / "data_manifests").glob("*.toml")}
    expected |= {f"clipedu/notebooks/{path.name}" for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    assert names == expected
    assert sum(name.endswith(".toml") for name in names) > 3 and sum(name.endswith(".ipynb") for name in names) > 5


def test_says_what_it_is(wheel):
    import clipedu

    metadata = next(text for name, text in contents(wheel).items() if name.endswith("METADATA")).decode()
    head = metadata.split("\n\n")[0].splitlines()
    assert f"Version: {clipedu.__version__}" in head and wheel.name == f"clipedu-{clipedu.__version__}-py3-none-any.whl"
    assert "Classifier: Typing :: Typed" in head
    assert any(line.startswith("Requires-Dist: umap-learn") and "extra" not in line for line in head)


def test_source_distribution_builds_the_same_wheel(wheel, tmp_path):
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path / "sdist", cwd=ROOT)
    (archive,) = (tmp_path / "sdist").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        assert not [name for name in file.getnames() if "/.git/" in name or "__pycache__" in name]
        file.extractall(tmp_path / "tree", filter="data")
    (tmp_path / "again").mkdir()
    again = build_wheel(next((tmp_path / "tree").iterdir()), tmp_path / "again")
    assert contents(again) == contents(wheel)


def test_command_line_works_away_from_the_checkout(installed, tmp_path):
    away = {"PYTHONPATH": "", "CLIPEDU_DATA": str(tmp_path / "data")}
    where = run(installed / "bin" / "python", "-c", "import clipedu; print(clipedu.__file__)", cwd=tmp_path, **away)
    assert Path(where.strip()).is_relative_to(installed)
    listed = run(installed / "bin" / "clipedu", "data", "list", cwd=tmp_path, **away)
    manifests = sorted(path.stem for path in (ROOT / "data_manifests").glob("*.toml"))
    assert all(any(line.startswith(name) for line in listed.splitlines()) for name in manifests), listed
    shown = run(installed / "bin" / "python", "-m", "clipedu", "data", "show", "cc3m-100k", cwd=tmp_path, **away)
    assert "pixparse/cc3m-wds" in shown


def test_notebooks_are_copied_away_from_the_checkout(installed, tmp_path):
    code = "from clipedu.cli.jupyter import copy_notebooks; print(*copy_notebooks(__import__('pathlib').Path('mine')), sep='\\n')"
    lines = run(installed / "bin" / "python", "-c", code, cwd=tmp_path, PYTHONPATH="").splitlines()
    sources = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert [line.split()[0] for line in lines] == ["new"] * len(sources)
    for source in sources:
        assert (tmp_path / "mine" / source.name).read_bytes() == source.read_bytes()
