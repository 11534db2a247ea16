"""The rules of docs/architecture.md that a tool can check."""

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import clipedu

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "clipedu"
PACKAGES = [clipedu.__name__] + [
    module.name for module in pkgutil.walk_packages(clipedu.__path__, "clipedu.") if module.ispkg
]


def test_imports_go_downwards():
    """The contracts of import-linter in pyproject.toml."""
    pytest.importorskip("importlinter", reason="the contracts need: pip install import-linter")
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_hides_a_submodule(package):
    module = importlib.import_module(package)
    submodules = {found.name for found in pkgutil.iter_modules(module.__path__)}
    assert submodules.isdisjoint(getattr(module, "__all__", ()))


def test_every_module_has_its_test():
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name in ("__init__.py", "__main__.py"):
            continue
        mirror = ROOT / "tests" / path.relative_to(PACKAGE).with_name(f"test_{path.name}")
        if not mirror.is_file():
            missing.append(f"{path.relative_to(ROOT)} -> {mirror.relative_to(ROOT)}")
    assert not missing, "\n".join(missing)


def test_only_widgets_import_ipywidgets():
    users = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^\s*(import|from) ipywidgets", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert users == {"widgets"}


def test_each_package_says_what_it_is():
    for package in PACKAGES:
        first = (importlib.import_module(package).__doc__ or "").splitlines()
        assert first and first[0].strip(), f"{package} has no docstring"
