"""Licences of exported weights.

clipedu's own licence, MIT, is of its code. Whose weights may be passed on, and how, depends on the pairs and on the released model that
they were trained from; so no licence is assumed. The names are those of the hub, which are mostly SPDX's in lower case.
"""

from __future__ import annotations

import re
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from clipedu.config.experiment import Experiment
from clipedu.data.sources.manifests import Manifest, find_manifest
from clipedu.exports.release import Release
from clipedu.models.registry import ENCODERS
from clipedu.models.text_encoders import hub_id
from clipedu.runs.folders import load_run
from clipedu.training.starting import is_run
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
    runs = chain(release)
    if runs and all(ex.data == "scenes" for ex in runs):
        words.append("The training data were drawn by clipedu itself, and have no terms of their own.")
    for manifest in training_manifests(release):
        terms = " ".join(filter(None, (manifest.terms, manifest.url)))
        words.append(
            f"Terms of the training data, {manifest.name}, as clipedu knows them: {manifest.licence}. {terms}".strip()
        )
    names = [release.name] if release.run is None else [str(ex.start) for ex in runs if ex.start is not None]
    words += [f"They were made from {shown_name(name)}, whose own terms go with them." for name in names]
    for side in ("image", "text"):
        if runs and getattr(runs[-1], f"{side}_weights") == "pretrained":
            name = getattr(runs[-1], f"{side}_encoder")
            words.append(
                f"The {side} encoder began with the pretrained weights of {name}, whose own terms go with these."
            )
    return words


def chain(release: Release) -> list[Experiment]:
    """Return the experiment of a run, that of the run it started from, and so on, as far as these are there.

    [] for a released model.
    """
    found: list[Experiment] = [] if release.run is None else [release.run.experiment]
    seen: set[str] = set()
    while found and (start := found[-1].start) is not None and start not in seen and is_run(start):
        seen.add(start)
        try:
            found.append(load_run(Path(start).expanduser(), scores=False).experiment)
        except ClipeduError:
            break
    return found


def training_manifests(release: Release) -> list[Manifest]:
    """Return the manifests of the pairs that a model was trained on, the last ones first, as far as there are any."""
    found: dict[str, Manifest] = {}
    for ex in chain(release):
        if ex.data != "scenes":
            with suppress(ClipeduError):
                found.setdefault(ex.data, find_manifest(ex.data))
    return list(found.values())


def base_model(release: Release) -> str | None:
    """Return the released model that a model was made from.

    It is that model itself, or its training began with it. None: there is none.
    """
    name = release.name if release.run is None else getattr(release.run.experiment, "start", None)
    return None if name is None else shown_name(name)


def hub_repositories(release: Release) -> list[str]:
    """Return the repositories of the hub that a model was made from, as `base_model` of a card names them.

    They are known of a released model and of pretrained encoders that were loaded from there by a name.
    """
    runs = chain(release)
    first = runs[-1] if runs else None
    found: list[str | None]
    if first is None:
        found = [_repository(release.name, release.pretrained)]
    elif first.start is not None:
        found = [_repository(first.start, first.start_weights)]
    else:
        found = [
            _timm_repository(first.image_encoder) if first.image_weights == "pretrained" else None,
            hub_id(first.text_encoder) if first.text_weights == "pretrained" else None,
        ]
    return [name for name in found if name is not None and re.fullmatch(r"([\w.-]+/)?[\w.-]+", name)]


def _repository(name: str, weights: str | None) -> str | None:
    """Return the repository of a released model's weights.

    A folder's path looks like a repository's name: only what was loaded from the hub names one there.
    """
    for prefix in ("hf:", "open_clip:hf-hub:"):
        if name.startswith(prefix):
            return name.removeprefix(prefix) if weights in (None, "pretrained") else None
    if name.startswith("open_clip:") and find_spec("open_clip") is not None:
        import open_clip

        architecture = name.removeprefix("open_clip:")
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        only = tags[0] if len(tags) == 1 and weights in (None, "pretrained") else weights
        return str(open_clip.get_pretrained_cfg(architecture, only or "").get("hf_hub") or "").strip("/")
    return None


def _timm_repository(name: str) -> str | None:
    import timm

    settings = ENCODERS[name].defaults if name in ENCODERS else {"timm": name}
    record = timm.get_pretrained_cfg(settings["timm"])
    return None if record is None else record.hf_hub_id


def shown_name(name: object) -> str:
    """Return a name as others may see it.

    Of a path of this machine that is the last part alone.

    >>> shown_name("/home/me/models/mine"), shown_name("hf:openai/clip-vit-base-patch32")
    ('mine', 'hf:openai/clip-vit-base-patch32')
    """
    text = str(name)
    return Path(text).name if Path(text).is_absolute() or text.startswith(("~", ".")) else text
