"""Extension of griffe: docstrings as this project writes them, and each object on one place of the site.

Griffe reads "Raises:" as text where it comes right after the last line of "Args:", so the blank line that it expects is inserted.
Markdown reads `>>>` as a quotation within a quotation, and "> 0" at the start of an item as another: examples become blocks of code,
and bounds are escaped. A package that re-exports a name of its submodule would show it twice, so the site shows it in the submodule.
"""

import re

import griffe

SECTION = re.compile(r"(?<=\S)\n( *)(?=(Args|Returns|Raises|Yields|Attributes):\n)")
EXAMPLE = re.compile(r"^( *)>>> [^\n]*(?:\n\1\S[^\n]*)*", re.MULTILINE)
BOUND = re.compile(r"^( +[\w, ]+: )>", re.MULTILINE)


def as_markdown(docstring: str) -> str:
    """Return a docstring in which sections, examples and bounds are what Markdown and griffe take them for."""
    docstring = SECTION.sub(r"\n\n\1", docstring)
    docstring = EXAMPLE.sub(lambda found: f"\n{found[1]}```pycon\n{found[0]}\n{found[1]}```\n", docstring)
    return BOUND.sub(r"\1\\>", docstring)


class ProjectDocstrings(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **kwargs) -> None:
        forget_exports(pkg)


def forget_exports(module: griffe.Module) -> None:
    module.exports = None
    for child in list(module.modules.values()):
        if not child.is_alias:
            forget_exports(child)
