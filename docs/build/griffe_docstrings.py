"""Extension of griffe: a section of a docstring need not follow a blank line.

Griffe reads "Raises:" as text where it comes right after the last line of "Args:". This inserts the line that it wants.
"""

import re

import griffe

SECTION = re.compile(r"(?<=\S)\n( *)(?=(Args|Returns|Raises|Yields|Attributes):\n)")


class SectionsWithoutBlankLines(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = SECTION.sub(r"\n\n\1", obj.docstring.value)
