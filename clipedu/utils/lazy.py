"""`lazy_exports`: public names, imported on first use (PEP 562).

So `import clipedu` loads none of torch, Jupyter, umap or seaborn, and a module without torch (`clipedu.evaluation.metrics`)
can be imported without the torch of its siblings.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make `__getattr__`, `__dir__` and `__all__` of a package.

    The package offers names of its submodules.

    A public name must differ from every submodule's: importing a submodule sets an attribute of that name on the package.

    Args:
        package: the package's `__name__`.
        homes: public name -> the submodule that defines it, relative to the package ("training.setup").
    Raises:
        AttributeError: from the returned `__getattr__`, for an unknown name; the message lists the known ones.
    """
    names = sorted(homes)

    def get(name: str) -> Any:
        module = sys.modules[package]
        if name not in homes:  # given name and object, Python suggests the nearest name
            message = f"module {package!r} has no attribute {name!r}. Public names: {', '.join(names)}"
            raise AttributeError(message, name=name, obj=module)
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        setattr(module, name, value)  # the next look-up does not come here
        return value

    return get, names.copy, names
