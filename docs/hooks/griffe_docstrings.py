"""Extension of griffe: docstrings as this project writes them, and each object on one place of the site.

Griffe reads "Raises:" as text where it comes right after the last line of "Args:", so the blank line that it wants is inserted.
A package that re-exports a name of its submodule would show it twice, so the site shows it in the submodule alone.
"""

import re

import griffe

SECTION = re.compile(r"(?<=\S)\n( *)(?=(Args|Returns|Raises|Yields|Attributes):\n)")


class ProjectDocstrings(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = SECTION.sub(r"\n\n\1", obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **kwargs) -> None:
        forget_exports(pkg)


def forget_exports(module: griffe.Module) -> None:
    module.exports = None
    for child in list(module.modules.values()):
        if not child.is_alias:
            forget_exports(child)
