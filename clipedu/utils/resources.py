"""Find data manifests and notebooks, in a wheel and in a checkout."""

from __future__ import annotations

from pathlib import Path

from clipedu.utils.errors import ClipeduError

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """Find a folder that is shipped with clipedu.

    It is inside the installed package, or beside the package in a checkout.

    Args:
        name: "data_manifests" or "notebooks".
    Raises:
        ClipeduError: it is in neither place; the installation is damaged.
    """
    inside, checkout = _PACKAGE / name, _PACKAGE.parent
    if any(inside.glob("[!._]*")):  # in a checkout there may be a folder with nothing but __pycache__
        return inside
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    raise ClipeduError(
        f"this installation of clipedu has no {name} (looked in {_PACKAGE} and {checkout}): reinstall it"
    )


def shipped_notebooks() -> list[Path]:
    """List the numbered notebooks, in order."""
    return sorted(shipped("notebooks").glob("[0-9]*.ipynb"))
