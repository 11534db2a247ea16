"""Public names of a package, imported on first use.

So `import clipedu` needs none of torch, Jupyter, umap or seaborn, and a module without torch (`clipedu.evaluation.metrics`)
can be imported without that of its siblings. PEP 562.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any


def lazy_exports(
    package: str, homes: dict[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package that offers names of its submodules.

    Args:
        package: its `__name__`.
        homes: public name -> the submodule that defines it, relative to the package ("training.setup").
    Raises:
        AttributeError: from the returned `__getattr__`, for a name that is not there; lists those that are.
    """
    names = sorted(homes)

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}. Public names: {', '.join(names)}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: names, names
