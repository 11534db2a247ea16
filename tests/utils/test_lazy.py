"""Lazy exports of a package made for the test: when its submodules are imported, and what is said of unknown names."""

import sys
import textwrap

import pytest

from clipedu.utils.lazy import lazy_exports
from tests.helpers.processes import assert_light

PACKAGE = "lazy_package_of_a_test"


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / PACKAGE
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "__init__.py").write_text("")
    (folder / "deep" / "one.py").write_text("first = [1]\n")
    (folder / "broken.py").write_text("import no_such_module\n")
    (folder / "empty.py").write_text("")
    (folder / "__init__.py").write_text(
        textwrap.dedent("""
            from clipedu.utils.lazy import lazy_exports
            homes = {"first": "deep.one", "lost": "broken", "absent": "empty"}
            __getattr__, __dir__, __all__ = lazy_exports(__name__, homes)
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield __import__(PACKAGE)
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


def test_a_submodule_is_imported_by_the_first_use_of_its_name(package):
    assert f"{PACKAGE}.deep.one" not in sys.modules
    value = package.first
    assert value == [1] and f"{PACKAGE}.deep.one" in sys.modules and f"{PACKAGE}.broken" not in sys.modules
    assert package.__dict__["first"] is value  # from now on without __getattr__


def test_from_import_and_star_import(package, monkeypatch):
    scope: dict = {}
    exec(f"from {PACKAGE} import first", scope)
    assert scope["first"] == [1]
    monkeypatch.setattr(package, "__all__", ["first"])
    exec(f"from {PACKAGE} import *", scope)


def test_dir_and_all_are_the_public_names(package):
    assert dir(package) == package.__all__ == ["absent", "first", "lost"]
    dir(package).clear()
    package.__dir__().clear()
    assert package.__all__ == ["absent", "first", "lost"]


def test_an_unknown_name_lists_the_known_ones(package):
    with pytest.raises(AttributeError, match="has no attribute 'frist'. Public names: absent, first, lost") as caught:
        package.frist  # noqa: B018
    assert caught.value.name == "frist" and caught.value.obj is package
    assert not hasattr(package, "__wrapped__")
    with pytest.raises(ImportError, match="cannot import name 'frist'"):
        exec(f"from {PACKAGE} import frist")


def test_a_broken_home_says_what_is_broken(package):
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        package.lost  # noqa: B018
    with pytest.raises(AttributeError, match=f"{PACKAGE}.empty' has no attribute 'absent'"):
        package.absent  # noqa: B018


def test_names_are_sorted():
    *_, names = lazy_exports("x", {"b": "m", "a": "m"})
    assert names == ["a", "b"]


def test_importing_clipedu_is_light():
    assert_light("clipedu", ("torch", "numpy", "pandas", "matplotlib", "ipywidgets", "seaborn", "umap"))
