"""The rules of docs/architecture.md that a tool can check."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest

import clipedu
from tests.helpers.processes import ROOT, run_python

PACKAGE = ROOT / "clipedu"
TREES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
PACKAGES = [clipedu.__name__] + [
    module.name for module in pkgutil.walk_packages(clipedu.__path__, "clipedu.") if module.ispkg
]


def test_imports_go_downwards():
    """The contracts of import-linter in pyproject.toml."""
    pytest.importorskip("importlinter", reason="the contracts need: pip install import-linter")
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = run_python("-c", code, "--no-cache", cwd=ROOT)
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


def imported(tree: ast.Module) -> Iterator[tuple[str, str | None]]:
    """(module, name) of each import in a module, wherever it stands; the name of `import module` is None."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


def test_only_widgets_import_ipywidgets():
    users = {
        path.split("/")[0] for path, tree in TREES.items() for module, _ in imported(tree) if "ipywidgets" in module
    }
    assert users == {"widgets"}


def test_imports_are_absolute():
    assert not [path for path, tree in TREES.items() if any(module.startswith(".") for module, _ in imported(tree))]


def test_no_module_imports_a_private_name_of_another():
    found = [
        f"{path}: {module}.{name}"
        for path, tree in TREES.items()
        for module, name in imported(tree)
        if module.startswith("clipedu") and re.match(r"_(?!_)", name or "")
    ]
    assert not found, "\n".join(found)


PRINTING = ("cli/", "bench/", "utils/doctor.py")  # what a person reads at a terminal; all else logs


def test_only_commands_print():
    found = [
        f"{path}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        if not path.startswith(PRINTING)
    ]
    assert not found, "use logging.getLogger('clipedu'): " + ", ".join(found)


@pytest.mark.parametrize(
    "pattern, instead",
    [
        (r"\b[Cc]an't\b", "cannot"),
        (r"\b[Cc]an not\b", "cannot"),
        (r"arXiv(?!:\d{4}\.\d{4,5}\b)[ :]*\d", "arXiv:2103.00020"),
    ],
)
def test_strings_are_in_the_english_of_the_design(pattern, instead):
    found = [
        f"{path}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(pattern, node.value)
    ]
    assert not found, f"write {instead!r}: " + ", ".join(found)


def public(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
    """A module or class, and its public functions, classes and methods, with dotted names."""
    yield name, node
    for child in getattr(node, "body", []):
        if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            below = f"{name}.{child.name}"
            yield from public(child, below) if isinstance(child, ast.ClassDef) else [(below, child)]


def untyped(function: ast.FunctionDef) -> list[str]:
    """Parameters of a function that have no type, and "return"."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    bare = [one.arg for one in named if one.annotation is None and one.arg not in ("self", "cls")]
    return bare + ["return"] * (function.returns is None and function.name != "__init__")


def test_public_functions_are_typed():
    found = [
        f"{name}: {', '.join(bare)}"
        for path, tree in TREES.items()
        for name, node in public(tree, path)
        if isinstance(node, ast.FunctionDef) and (bare := untyped(node))
    ]
    assert not found, "\n".join(found)
    (function,) = ast.parse("def f(self, a, b: int): ...").body
    assert untyped(function) == ["a", "return"]


def first_line_fault(docstring: str) -> str | None:
    """What is wrong with the first line of a docstring, if anything."""
    first = docstring.splitlines()[0]
    if len(first) > 72:
        return f"{len(first)} characters, of at most 72"
    return None if first.endswith((".", "?")) else "does not end with a period"


def test_docstrings_begin_with_one_short_line():
    found = [
        f"{name}: {fault}"
        for path, tree in TREES.items()
        for name, node in public(tree, path)
        if (docstring := ast.get_docstring(node)) and (fault := first_line_fault(docstring))
    ]
    assert not found, "\n".join(found)


def test_what_a_bad_first_line_is():
    assert first_line_fault("Return it.\n\n" + 100 * "x") is None
    assert first_line_fault("x" * 72 + ".") == "73 characters, of at most 72"
    assert first_line_fault("Return it") == "does not end with a period"


# Exceptions inside these are shown in the output and raised nowhere, so a broken lab would pass nbmake.
SILENT = re.compile(r"widgets\.Output\(|interactive_output\(|[^a-z_]interact\(|\.capture\(")


def test_labs_and_notebooks_use_nothing_that_hides_exceptions():
    sources = [*(PACKAGE / "widgets").glob("*.py"), *(ROOT / "notebooks" / "source").glob("*.py")]
    assert len(sources) > 12
    found = [f"{path.name}: {match[0]}" for path in sources for match in SILENT.finditer(path.read_text("utf-8"))]
    assert not found, "\n".join(found)
    assert SILENT.search("with widgets.Output() as out:") and SILENT.search("@out.capture()")


def test_each_package_says_what_it_is():
    for package in PACKAGES:
        first = (importlib.import_module(package).__doc__ or "").splitlines()
        assert first and first[0].strip(), f"{package} has no docstring"
