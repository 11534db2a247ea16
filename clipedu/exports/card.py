"""The model card: README.md of an export.

It begins with the metadata that the hub reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu import __version__
from clipedu.evaluation.metrics import BY_RANK, METRICS
from clipedu.evaluation.uncertainty import chance_levels
from clipedu.exports.licences import (
    base_model,
    hub_repositories,
    licence_entries,
    licence_words,
    shown_name,
    training_manifests,
)
from clipedu.exports.reading import reading_words
from clipedu.exports.release import Release
from clipedu.report.format import duration
from clipedu.utils.markdown import markdown_table

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

SITE_TASKS = {"zero-shot classification": "zero-shot-image-classification"}  # as the hub names them
_SPLIT_OF = {"tr@": "val", "ir@": "val", "top": "zeroshot"}


def model_card(release: Release, library: str, code: str, licence: str | None, *, tower: str = "") -> str:
    """Return the text of a model card.

    Args:
        release: the model.
        library: that loads it: "transformers", "open_clip", "timm" or "onnx".
        code: that loads it.
        licence: as `clipedu.exports.licences.licence_entries` takes it.
        tower: what comes out of an image tower that was exported alone; "" for a whole model.
    Raises:
        ClipeduError: a licence that no card can hold.
    """
    from huggingface_hub import ModelCard, ModelCardData

    name = _title(release)
    results = [] if tower else list(_results(release))
    repositories = hub_repositories(release)
    facts: dict[str, Any] = {
        **licence_entries(licence),
        "library_name": library,
        "pipeline_tag": "image-feature-extraction" if tower else "zero-shot-image-classification",
        "tags": ["clipedu", "clip", *([] if release.geometry == "cosine" else [release.geometry])],
        "datasets": _datasets(release),
        "base_model": repositories[0] if len(repositories) == 1 else repositories,
        "metrics": sorted({result.metric_type for result in results}) or None,
        "model_name": name,
        "eval_results": results or None,
    }
    data = ModelCardData(**{key: value for key, value in facts.items() if value})
    text = "\n\n".join(_sections(release, name, code, licence, tower))
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n"))


def _sections(release: Release, name: str, code: str, licence: str | None, tower: str) -> Iterator[str]:
    what = "The image tower of a dual encoder" if tower else "A dual encoder of images and texts"
    yield f"# {name}"
    yield f"{what} ({_kind(release)}), exported by clipedu {__version__}{_of(release)}."
    yield f"## Load it\n\n```python\n{code}\n```"
    read, compared = reading_words(release), _comparison(release)
    yield "## What goes in and comes out\n\n" + _bullets([read[0], tower] if tower else read + compared)
    yield "## Training\n\n" + _bullets(_training(release))
    if release.run is not None and (settings := _settings(release)):
        yield f"Settings that differ from clipedu's defaults:\n\n{markdown_table(('setting', 'value'), settings)}"
    if not tower:
        yield "## Scores\n\n" + _scores(release)
    yield "## Licence\n\n" + "\n\n".join(licence_words(release, licence))
    yield "## Limits\n\n" + _bullets(_limits(release))
    yield "## Citation\n\n" + _citation()


def _title(release: Release) -> str:
    return re.sub(r"[^\w.-]+", "-", Path(release.name).name.rpartition(":")[2]).strip("-") or "model"


def _kind(release: Release) -> str:
    if release.run is None:
        return f"from {shown_name(release.name)}"
    ex = release.run.experiment
    if (ground := base_model(release)) is not None:  # whose encoders have no names of their own
        return f"from {ground}, trained further by the loss {ex.loss}"
    return f"{ex.image_encoder} and {ex.text_encoder}, trained by the loss {ex.loss}"


def _of(release: Release) -> str:
    return f" from the run {Path(release.name).name}, {release.weights}" if release.run is not None else ""


def _comparison(release: Release) -> list[str]:
    """Say what embeddings are and how they are compared."""
    words = {
        "cosine": "they are compared by the cosine, so their length does not count",
        "elliptic": "they are compared by the angle between them, so their length does not count",
    }
    how = words.get(
        release.geometry, f"they are tangent vectors, which the geometry {release.geometry!r} maps and compares"
    )
    entry = type(release.model.geometry)
    formula = "" if release.geometry == "cosine" else f" (similarity: ${entry.formula}$, {entry.paper})"
    lines = [f"Embeddings have {release.dim} numbers and any length: {how}{formula}."]
    if (c := getattr(release.model.geometry, "curvature", None)) is not None:
        lines.append(f"Curvature: c = {float(c.detach()):.4g} (the space has curvature -c).")
    if release.scale is None:
        lines.append("The loss has no temperature, so logits have no scale that means anything: rank by similarity.")
    else:
        learned = "learned" if release.scale.learned else "fixed"
        bias = "" if release.scale.bias is None else f", plus the bias {release.scale.bias:.4g}"
        lines.append(
            f"A pair's logit is {release.scale.logit_scale:.4g} times the similarity ({learned} temperature "
            f"{1 / release.scale.logit_scale:.4g}){bias}."
        )
    return lines


def _training(release: Release) -> list[str]:
    run = release.run
    if run is None:
        return [f"Not by clipedu: this is {shown_name(release.name)}, in another form."]
    lines = [
        f"Pairs: {entry['rows']:,} of {shown_name(entry['name'])}." for entry in run.sets() if entry["split"] == "train"
    ]
    lines += [f"{manifest.name}: {manifest.about}." for manifest in training_manifests(release)]
    ex = run.experiment
    if ground := base_model(release):
        lines.append(f"Training began with {shown_name(ground)}.")
    if (blend := run.blend()) is not None:
        lines.append(
            f"The weights are a blend of {', '.join(map(shown_name, blend['models']))}; the settings are those of the first."
        )
    else:
        lines.append(
            f"{ex.epochs} {'epoch' if ex.epochs == 1 else 'epochs'}, batches of {ex.batch_size}, {ex.optimizer} with learning rate "
            f"{ex.lr:g} and weight decay {ex.weight_decay:g}; {duration(run.seconds)} on {run.environment.get('device', 'a machine')}."
        )
    for side in ("image", "text"):
        weights, frozen = getattr(ex, f"{side}_weights"), getattr(ex, f"{side}_frozen")
        if weights != "random" or frozen:
            how = "frozen" if frozen else "trained further"
            lines.append(f"The {side} encoder began with weights ({shown_name(weights)}), and was {how}.")
    versions = [
        f"{name} {run.environment[name]}"
        for name in ("clipedu", "torch", "timm", "transformers")
        if name in run.environment
    ]
    return lines + ([f"Versions: {', '.join(versions)}."] if versions else [])


def _settings(release: Release) -> list[tuple[str, str]]:
    """Return settings that differ from the default, without paths of the machine."""
    assert release.run is not None
    changed = release.run.experiment.changed().items()
    return [(name, f"`{f'{value:.6g}' if isinstance(value, float) else shown_name(value)}`") for name, value in changed]


def _scores(release: Release) -> str:
    rows = [
        (METRICS[key].heading, f"{value:.2f}", chance, METRICS[key].definition)
        for key, value, chance in _ranked(release)
    ]
    if not rows:
        return "None were computed for these weights."
    sizes = _counts(release)
    return f"In percent, {sizes}.\n\n{markdown_table(('score', 'value', 'chance', 'what it is'), rows)}"


def _counts(release: Release) -> str:
    assert release.run is not None
    of = {entry["split"]: entry for entry in release.run.sets()}
    words = [
        f"on {of[split]['rows']:,} images of {shown_name(of[split]['name'])}/{split}"
        for split in ("val", "zeroshot")
        if split in of
    ]
    return " and ".join(words) or "on sets that the run does not name"


def _ranked(release: Release) -> Iterator[tuple[str, float, str]]:
    """Yield key, value and chance of each score by rank."""
    metrics: Mapping[str, float] = release.run.metrics if release.run is not None and release.scored else {}
    chance = chance_levels(metrics) if metrics else {}
    for key in BY_RANK:
        if key in metrics:
            yield key, metrics[key], f"{chance[key]:.2f}" if key in chance else ""


def _results(release: Release) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    if release.run is None:
        return
    names = {entry["split"]: shown_name(entry["name"]) for entry in release.run.sets()}
    for key, value, _ in _ranked(release):
        split = next((split for start, split in _SPLIT_OF.items() if key.startswith(start)), "val")
        task = METRICS[key].task
        yield EvalResult(
            task_type=SITE_TASKS.get(task, "image-text-retrieval"),
            task_name=task,
            dataset_type=names.get(split, "unknown"),
            dataset_name=names.get(split, "unknown"),
            dataset_split=split,
            metric_type=key,
            metric_name=METRICS[key].heading,
            metric_value=round(value, 4),
        )


def _datasets(release: Release) -> list[str] | None:
    """Return the repositories of the training pairs, as far as they are known."""
    return [manifest.hub for manifest in training_manifests(release) if manifest.hub] or None


def _limits(release: Release) -> list[str]:
    lines = [
        "It is what a teaching and analysis kit trained, on a small set for a short time: not tested for fairness, safety or use in "
        "products."
        if release.run is not None
        else "See the card of the model that it was exported from.",
        "Scores hold for the sets they were computed on.",
    ]
    if release.run is not None and release.run.experiment.data == "scenes":
        lines.append("It has seen drawn scenes of coloured shapes alone, and knows nothing of photographs.")
    return lines


def _citation() -> str:
    return f"```bibtex\n@software{{clipedu,\n  title = {{clipedu: a teaching and analysis kit for contrastive language-image pre-training}},\n  author = {{the clipedu developers}},\n  version = {{{__version__}}}\n}}\n```"


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
