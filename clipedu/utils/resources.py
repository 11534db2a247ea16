"""Folders that are shipped with clipedu: data manifests and notebooks, found in a wheel and in a checkout."""

from __future__ import annotations

from pathlib import Path

from clipedu.utils.errors import ClipeduError

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """The folder `name` ("data_manifests" or "notebooks") inside the installed package, else beside it in a checkout.

    Raises:
        ClipeduError: it is in neither; the installation is damaged.
    """
    if any((inside := _PACKAGE / name).glob("*")):
        return inside
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    raise ClipeduError(
        f"this installation of clipedu has no {name} (looked in {_PACKAGE} and {checkout}): reinstall it"
    )


def shipped_notebooks() -> list[Path]:
    """The numbered notebooks, in order."""
    return sorted(shipped("notebooks").glob("[0-9]*.ipynb"))
