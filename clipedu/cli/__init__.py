"""The command line: `clipedu COMMAND`.

Each module parses one command, calls a function and prints.
"""

from clipedu.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "main": "parser",
    },
)
