"""Licences of exported weights.

clipedu's own licence, MIT, is of its code. Whose weights may be passed on, and how, depends on the pairs and on the released model that
they were trained from; so no licence is assumed. The names are those of the hub, which are mostly SPDX's in lower case.
"""

from __future__ import annotations

from pathlib import Path

from clipedu.data.sources.manifests import Manifest, find_manifest
from clipedu.exports.release import Release
from clipedu.utils.errors import ClipeduError

HUB_LICENCES = (
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bigscience-openrail-m", "bsd", "bsd-2-clause", "bsd-3-clause", "bsl-1.0",
    "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-2.0",
    "ecl-2.0", "epl-2.0", "eupl-1.2", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "mit", "mpl-2.0", "ms-pl",
    "ncsa", "odbl", "ofl-1.1", "openrail", "openrail++", "osl-3.0", "pddl", "unlicense", "wtfpl", "zlib",
)  # fmt: skip


def licence_entries(given: str | None) -> dict[str, str]:
    """Return the entries of a model card's metadata for a licence.

    Args:
        given: as the user wrote it; None says nothing.
    Raises:
        ClipeduError: a name that no card can hold.
    """
    if given is None:
        return {"license": "unknown"}
    name = given.strip()
    if not name or len(name) > 100 or not name.isprintable():
        raise ClipeduError(
            f"licence={given!r} is no name of a licence: give one such as mit, apache-2.0 or cc-by-nc-4.0"
        )
    if name.lower() in HUB_LICENCES:
        return {"license": name.lower()}
    return {"license": "other", "license_name": name}


def licence_words(release: Release, given: str | None) -> list[str]:
    """Say in sentences under which terms the weights are.

    Args:
        release: the model.
        given: as of `licence_entries`.
    """
    if given is not None:
        words = [f"Whoever exported this model put its weights under: {given.strip()}."]
    else:
        words = [
            "No licence was given for these weights. Before you use them or pass them on, see what the terms of all that they were "
            "made from allow, or ask whoever trained them."
        ]
    if release.run is not None and release.run.experiment.data == "scenes":
        words.append("The training data were drawn by clipedu itself, and have no terms of their own.")
    if manifest := training_manifest(release):
        terms = " ".join(filter(None, (manifest.terms, manifest.url)))
        words.append(
            f"Terms of the training data, {manifest.name}, as clipedu knows them: {manifest.licence}. {terms}".strip()
        )
    if (ground := base_model(release)) is not None:
        words.append(f"They were made from {ground}, whose own terms go with them.")
    for side in ("image", "text"):
        if release.run is not None and getattr(release.run.experiment, f"{side}_weights") == "pretrained":
            name = getattr(release.run.experiment, f"{side}_encoder")
            words.append(
                f"The {side} encoder began with the pretrained weights of {name}, whose own terms go with these."
            )
    return words


def training_manifest(release: Release) -> Manifest | None:
    """Return the manifest of the pairs that a model was trained on.

    None: there is none that is known.
    """
    if release.run is None or release.run.experiment.data == "scenes":
        return None
    try:
        return find_manifest(release.run.experiment.data)
    except ClipeduError:
        return None


def base_model(release: Release) -> str | None:
    """Return the released model that a model was made from.

    It is that model itself, or its training began with it. None: there is none.
    """
    name = release.name if release.run is None else getattr(release.run.experiment, "start", None)
    return None if name is None else shown_name(name)


def shown_name(name: object) -> str:
    """Return a name as others may see it.

    Of a path of this machine that is the last part alone.

    >>> shown_name("/home/me/models/mine"), shown_name("hf:openai/clip-vit-base-patch32")
    ('mine', 'hf:openai/clip-vit-base-patch32')
    """
    text = str(name)
    return Path(text).name if Path(text).is_absolute() or text.startswith(("~", ".")) else text
