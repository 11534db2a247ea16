"""The README and the docs: short, true of the tree, their commands and examples work, and the site builds."""

from __future__ import annotations

import doctest
import importlib
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import clipedu
from clipedu.cli.parser import build_parser
from clipedu.config.command_line import experiment_changes
from clipedu.config.experiment import Experiment
from clipedu.studies.runner import COMPARISONS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = "clipedu|data_manifests|notebooks|tests|scripts|docs|.github"
REGISTRIES = (clipedu.LOSSES, clipedu.OPTIMIZERS, clipedu.GEOMETRIES)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: Path, language: str) -> list[str]:
    """The fenced code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def spans(page: Path) -> list[str]:
    """The pieces of a page between single backticks, code blocks left out."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose)]


def commands(page: Path) -> list[str]:
    """Every `clipedu ...` that a page tells its reader to run."""
    lines = [line.partition("#")[0] for block in blocks(page, "bash") for line in block.splitlines()]
    pieces = [piece.strip() for text in (*lines, *spans(page)) for piece in text.split("&&")]
    return [piece for piece in pieces if piece.startswith("clipedu ")]


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@each_page
def test_commands_are_understood(page, capsys):
    """The real parser takes each; "[...]" marks what is optional, and "clipedu compare WHAT" alone only names a command."""
    parser = build_parser()
    for command in commands(page):
        words = shlex.split(command.replace("[", "").replace("]", ""))[1:]
        try:
            check_names(parser.parse_args(words))
        except SystemExit as stop:
            needs_more = len(words) == 1 and "the following arguments are required" in capsys.readouterr().err
            assert stop.code == 0 or needs_more, f"{page.name}: {command}"


def check_names(args) -> None:
    """The names behind the options of an experiment or a comparison are in their registries."""
    if hasattr(args, "preset"):
        experiment = Experiment.preset(args.preset or "laptop", **experiment_changes(args))
        for registry, name in zip(
            REGISTRIES, (experiment.loss, experiment.optimizer, experiment.geometry), strict=True
        ):
            assert registry[name]
    if hasattr(args, "variants"):
        assert set(args.variants or ()) <= set(COMPARISONS[args.what].variants)


def test_settings_named_alone_are_options():
    """A piece such as `--batch-size 1024 --accumulate 8` is a list of options of `clipedu train` or of another command."""
    options = set()
    for parser in parsers(build_parser()):
        options |= set(parser._option_string_actions)
    for page in PAGES:
        for span in spans(page):
            if span.startswith("--"):
                unknown = [word for word in span.split() if word.startswith("--") and word not in options]
                assert not unknown, f"{page.name}: {span}"


def parsers(parser):
    yield parser
    for action in parser._actions:
        for child in (getattr(action, "choices", None) or {}).values() if hasattr(action, "add_parser") else ():
            yield from parsers(child)


def test_scripts_are_called_with_options_that_they_have():
    for page in PAGES:
        text = " ".join(page.read_text(encoding="utf-8").split())
        for script, arguments in re.findall(r"python (scripts/\w+\.py)([^`&]*)", text):
            source = (ROOT / script).read_text(encoding="utf-8")
            for option in re.findall(r"--[a-z-]+", arguments):
                assert f'"{option}"' in source, f"{page.name}: {script} {option}"


@each_page
def test_paths_exist(page):
    """Each path that begins at the repository's root; capitals (NAME, SUBJECT) and * stand for something."""
    for span in spans(page):
        for path in re.findall(rf"(?:^|[\s(])((?:{FOLDERS})/[\w./*-]*)", span):
            fixed = itertools.takewhile(lambda part: not re.search(r"\*|X$|Y\.|NAME|SUBJECT", part), path.split("/"))
            assert (ROOT / "/".join(fixed)).exists(), f"{page.name}: {path}"


@each_page
def test_names_exist(page):
    """Each dotted name in backticks, `clipedu.X.Y`, can be imported; so can each test that is named."""
    for span in spans(page):
        for name in re.findall(r"\bclipedu(?:\.[A-Za-z_]\w*)+", span):
            if name not in ("clipedu.X", "clipedu.X.Y"):
                resolve(name)
        if re.fullmatch(r"test_\w+[a-z]", span):
            assert any(f"def {span}(" in path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")), (
                span
            )


@pytest.mark.parametrize("page", sorted((ROOT / "docs/how-to").glob("add-*.md")), ids=lambda page: page.stem)
def test_names_beside_a_file_are_in_it(page):
    """A Python name in a step of a checklist is in one of the step's files."""
    for step in re.split(r"^\d+\. ", page.read_text(encoding="utf-8").partition("\nCheck")[0], flags=re.MULTILINE)[1:]:
        named = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", step)]
        there = [ROOT / path for path in named if path.endswith(".py") and (ROOT / path).is_file()]
        text = "\n".join(path.read_text(encoding="utf-8") for path in there)
        for name in named:
            if there and (found := PYTHON_NAME.match(name)):
                assert re.search(rf"\b{found[1]}\b", text), f"{page.name}: {name} is not in {[*map(str, there)]}"


# `_build_x`, `_build_x(...)`, `REGISTRY`, `ClassName`: what looks like one name of a module and nothing else.
PYTHON_NAME = re.compile(r"(_?[a-z]+(?:_[a-z0-9]+)+|[A-Z][A-Z_]{2,}|_[A-Z_]+|[A-Z][a-z]+(?:[A-Z][a-z]+)*)(?:\(.*\))?$")


def resolve(name: str):
    """The object of a dotted name."""
    found, *rest = name.split(".")
    thing = importlib.import_module(found)
    for part in rest:
        if not hasattr(thing, part):
            importlib.import_module(f"{thing.__name__}.{part}")
        thing = getattr(thing, part)
    return thing


@each_page
def test_relative_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", link):
            path, _, anchor = link.partition("#")
            target = page if not path else (page.parent / path).resolve()
            assert target.exists(), f"{page.name}: {link}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
                assert anchor in anchors, f"{page.name}: {link}"


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda page: page.stem)
def test_examples_run(page, tmp_path, monkeypatch):
    """The Python blocks of a page, in order and with each other's names; a block with >>> is a doctest."""
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        if block.startswith(">>>"):
            flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
            test = doctest.DocTestParser().get_doctest(block, names, page.name, str(page), 0)
            printed: list[str] = []
            result = doctest.DocTestRunner(optionflags=flags).run(test, out=printed.append, clear_globs=False)
            assert result.failed == 0, "".join(printed)
        else:
            exec(compile(block, page.name, "exec"), names)


def test_every_public_name_and_package_is_in_the_reference():
    index = (ROOT / "docs/reference/index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \[`clipedu\.(\w+)`\]\[", index, re.MULTILINE)) == set(clipedu.__all__)
    for name, home in clipedu._HOMES.items():
        assert f"| [`clipedu.{name}`][clipedu.{home}.{name}] | `clipedu.{home}` |" in index, name
    packages = {path.parent.name for path in (ROOT / "clipedu").glob("*/__init__.py")}
    assert set(re.findall(r"^\| \[`clipedu\.\w+`\]\((\w+)\.md\)", index, re.MULTILINE)) == packages
    assert {path.stem for path in (ROOT / "docs/reference").glob("*.md")} == packages | {"index"}


def test_the_table_of_the_layers_is_the_contract():
    tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml: Python 3.11 or newer")
    with (ROOT / "pyproject.toml").open("rb") as file:
        contract = tomllib.load(file)["tool"]["importlinter"]["contracts"][0]["layers"]
    there = [[name.strip() for name in layer.split("|") if "(" not in name] for layer in contract]
    table = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").partition("## Rules")[0]
    drawn = [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)]
    assert drawn == [layer for layer in there if layer]


def test_one_version_number():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == clipedu.__version__
    assert f"## [{clipedu.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r'^dynamic = \["version"\]', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)


def test_moved_modules_are_where_the_changelog_says():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]*) \| (`[^|]*) \|$", text, re.MULTILINE)
    assert len(rows) > 80
    for _, new in rows:
        for name in re.findall(r"`([^`]+)`", new):
            path = ROOT / "clipedu" / name.replace(".", "/")
            assert path.with_suffix(".py").is_file(), name


def test_papers_in_the_code_are_in_the_citation_file():
    """Each arXiv number in the package, and those of the optimizers, which are put together there."""
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    cited = set(re.findall(r"notes: arXiv:(\d{4}\.\d{4,5})$", citation, re.MULTILINE))
    code = [path.read_text(encoding="utf-8") for path in (ROOT / "clipedu").rglob("*.py")]
    papers = {number for text in code for number in re.findall(r"arXiv[: ](\d{4}\.\d{4,5})", text)}
    papers |= {number for entry in clipedu.OPTIMIZERS.values() for number in re.findall(r"\d{4}\.\d{4,5}", entry.paper)}
    assert papers <= cited, papers - cited


def test_the_picture_of_each_page_says_what_it_is():
    for page in PAGES:
        for text, _ in re.findall(r"!\[(.*?)\]\((.*?)\)", page.read_text(encoding="utf-8")):
            assert len(text.split()) >= 4, f"{page.name}: a figure without a description"


def test_the_site_builds(tmp_path):
    """As on a machine without a network, and with every warning an error."""
    for module in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(module, reason="the site needs: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "architecture.html", "results/grid.html", "reference/losses.html"} <= pages
    losses = (tmp_path / "site/reference/losses.html").read_text(encoding="utf-8")
    assert 'id="clipedu.losses.build_loss"' in losses and "<math" in losses and "arithmatex" not in losses
    assert "<blockquote>" not in losses and "&gt;&gt;&gt;" in losses, "examples are shown as quotations"
    index = (tmp_path / "site/reference/index.html").read_text(encoding="utf-8")
    assert "][clipedu." not in index, "a name without a page"
    for page in pages:
        loaded = re.findall(
            r'<(?:script|img|link)[^>]*(?:src|href)="(https?://[^"]*)"', (tmp_path / "site" / page).read_text()
        )
        assert not loaded, f"{page} loads {loaded[0]}"
