"""Probes trained on a few pictures a class, scored on a zero-shot set.

`probe_scores` draws k pictures of each class ("shots") by seed, trains each probe on the features before the projection and on the
embeddings after it, and scores both on the pictures of another set. The shots of one seed are nested: the 4 are among the 16. `summarise`
takes mean and Student's 95 % interval over the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from clipedu.data.pairs import Pairs
from clipedu.evaluation.calibration import zero_shot_logits
from clipedu.evaluation.probes import Sample, accuracy, build_probes, cosine_distance, train_probe
from clipedu.evaluation.recall import class_prototypes
from clipedu.inference.features import embed_images_in_chunks, frozen_image_features
from clipedu.models.dual_encoder import DualEncoder, evaluating
from clipedu.utils.checks import check_distinct
from clipedu.utils.errors import ClipeduError, quoted
from clipedu.utils.finite import check_model, finite_rows
from clipedu.utils.seeding import seeded
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import pandas

PROBES = ("linear", "knn", "gda")
SEEDS = (0, 1, 2)
BEFORE, AFTER = "before projection", "after projection"
_PURPOSE = 15  # of the random numbers here, beside the seed


def draw_shots(labels: Tensor, shots: int | None, seed: int) -> Tensor:
    """Draw pictures of each class.

    Args:
        labels: int64 [N], 0..C-1; each class is there.
        shots: how many of each class; None takes all.
        seed: of the draw.
    Returns:
        rows int64 [M], class by class; within a class in the order of the draw, so that fewer shots are the first of more.
    Raises:
        ClipeduError: a class has fewer pictures than `shots`.
    """
    order = torch.randperm(len(labels), generator=seeded(seed, _PURPOSE))
    order = order[labels[order].sort(stable=True).indices]
    place = _places(labels[order])
    if shots is None:
        return order
    counts = torch.bincount(labels)
    if int(counts.min()) < shots:
        raise ClipeduError(
            f"{shots} shots are more than class {int(counts.argmin())} has labelled pictures: at most {int(counts.min())} here"
        )
    return order[place < shots]


def held_out(labels: Tensor) -> Tensor:
    """Choose a quarter of each class to choose settings by.

    Args:
        labels: int64 [M], class by class, as `draw_shots` orders them.
    Returns:
        bool [M]: of a class of n the last n / 4, at least one; none of a class of one.
    """
    counts = torch.bincount(labels)
    held = torch.where(counts > 1, (counts // 4).clamp(min=1), 0)
    return _places(labels) >= (counts - held)[labels]


def _places(labels: Tensor) -> Tensor:
    """Number the rows of each class from 0; labels int64 [M] are class by class."""
    counts = torch.bincount(labels)
    return torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels]


@torch.no_grad()
def features_and_embeddings(model: DualEncoder, pairs: Pairs, *, progress: bool = False) -> tuple[Tensor, Tensor]:
    """Compute image features and embeddings, in one pass.

    Args:
        model: with its weights.
        pairs: N rows.
        progress: show a progress bar.
    Returns:
        features before the projection, float32 [N, F], and embeddings after it, [N, D]; both on the CPU.
    Raises:
        NotFinite: one of them is not finite.
    """
    what = f"of the images of {pairs.name}/{pairs.split}"
    with evaluating(model):
        if "image" in model.frozen:
            features = frozen_image_features(model, pairs, progress=progress)
            embeddings = model.project_image(features.to(model.device)).float().cpu()
        else:
            width = 0

            def embed(pixels: Tensor) -> Tensor:
                nonlocal width
                found = model.image_features(pixels)
                width = found.shape[1]
                return torch.cat([found.float(), model.project_image(found).float()], 1)

            both = embed_images_in_chunks(embed, model, pairs, progress=progress)
            features, embeddings = both[:, :width], both[:, width:]
    return finite_rows(features, f"features {what}", model), finite_rows(embeddings, f"embeddings {what}", model)


def probe_scores(
    model: DualEncoder,
    train: Pairs,
    test: Pairs,
    *,
    probes: Sequence[str] = PROBES,
    shots: Sequence[int | None] = (None,),
    seeds: Sequence[int] = SEEDS,
    logit_scale: float | None = None,
    progress: bool = False,
) -> pandas.DataFrame:
    """Train probes on labelled pictures and score them on others.

    All compare the classes that `train` has. Embeddings are taken as the points of the geometry: on a sphere unit vectors, else tangent
    vectors as they are. Nearest neighbours go by the geometry's distance after the projection, and by the cosine before it.

    Args:
        model: with its tokenizer.
        train: labelled pictures (`clipedu.data.labelled.labelled_training`).
        test: a labelled set with class names, as it is scored zero-shot.
        probes: of "linear", "knn" and "gda".
        shots: pictures a class to train on, at least 1; None is all of them, with the first seed alone.
        seeds: of the draws.
        logit_scale: 1 / temperature, of the zero-shot logits that "gda + zero-shot" adds; None takes the geometry's initial one.
        progress: show progress bars.
    Returns:
        a tidy frame, a row a probe trained: "features" ("before projection" or "after projection"), "probe", "shots" (pictures a
        class; 0 for zero-shot, nan for all), "seed", "setting" and "value" (what was chosen), "top1" in percent.
    Raises:
        ClipeduError: sets without classes, classes that cannot be compared, an unknown probe, or too many shots.
        NotFinite: a weight or an embedding is not finite.
    """
    import pandas

    _check_numbers(shots, seeds)
    build_probes(probes)
    kept, train_labels, test_labels = _shared_classes(train, test)
    check_model(model)
    assert test.class_names is not None
    scale = 1 / model.geometry.temperature if logit_scale is None else logit_scale
    drawn = {
        (k, seed): draw_shots(train_labels, k, seed) for k in shots for seed in (seeds if k is not None else seeds[:1])
    }
    prototypes = class_prototypes(model, [test.class_names[index] for index in kept], test.templates)
    spaces: dict[str, list[Sample]] = {BEFORE: [], AFTER: []}
    for pairs, labels in ((train, train_labels), (test, test_labels)):
        features, embeddings = features_and_embeddings(model, pairs, progress=progress)
        logits = zero_shot_logits(embeddings.to(model.device), prototypes.to(model.device), model.geometry, scale)
        spaces[BEFORE].append(Sample(features, labels, logits))
        spaces[AFTER].append(Sample(_points(model, embeddings), labels, logits))
    rows = [{"features": AFTER, "probe": "zero-shot", "shots": 0.0, "top1": accuracy(_zero_shot, spaces[AFTER][1])}]
    todo = [
        (place, probe, k, seed)
        for place in spaces
        for probe in build_probes(probes, _distance(model, place))
        for k, seed in drawn
    ]
    for place, probe, k, seed in tqdm(todo, desc="probes", disable=not progress, leave=False, delay=1):
        whole, scored = spaces[place]
        sample = whole.rows(drawn[k, seed])
        classifier, value = train_probe(probe, sample, held_out(sample.labels))
        rows.append(
            {
                "features": place,
                "probe": probe.name,
                "shots": math.nan if k is None else float(k),
                "seed": seed,
                "setting": probe.setting,
                "value": value if probe.setting else math.nan,
                "top1": accuracy(classifier, scored),
            }
        )
    columns = ["features", "probe", "shots", "seed", "setting", "value", "top1"]
    return pandas.DataFrame(rows, columns=columns).astype({"seed": "Int64"}).fillna({"setting": ""})


def summarise(scores: pandas.DataFrame) -> pandas.DataFrame:
    """Take means over the seeds.

    Args:
        scores: of `probe_scores`.
    Returns:
        a row for each "features", "probe" and "shots", in the order of the frame: "seeds" (how many), "top1" (the mean, in percent),
        and "interval" (half of Student's 95 % interval of it; nan for one seed).
    """
    import pandas

    rows = []
    for key, group in scores.groupby(["features", "probe", "shots"], sort=False, dropna=False):
        mean, half = interval(group["top1"].tolist())
        rows.append((*key, len(group), mean, half))
    return pandas.DataFrame(rows, columns=["features", "probe", "shots", "seeds", "top1", "interval"])


def _zero_shot(sample: Sample) -> Tensor:
    return sample.zero_shot


@torch.no_grad()
def _points(model: DualEncoder, embeddings: Tensor) -> Tensor:
    """Return the tangent vectors of the points: unit vectors on a sphere, else what they were."""
    geometry = model.geometry
    return geometry.logmap0(geometry.expmap0(embeddings.to(model.device))).cpu()


def _distance(model: DualEncoder, place: str) -> Callable[[Tensor, Tensor], Tensor]:
    if place == BEFORE:
        return cosine_distance
    geometry = model.geometry

    @torch.no_grad()
    def distance(x: Tensor, y: Tensor) -> Tensor:
        return geometry.distance(x.to(model.device), y.to(model.device)).cpu()

    return distance


def _check_numbers(shots: Sequence[int | None], seeds: Sequence[int]) -> None:
    check_distinct("shots", shots)
    check_distinct("seeds", seeds)
    for k in shots:
        if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
            raise ClipeduError(f"shots must be whole numbers of at least 1, or None for all, got {quoted(k)}")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ClipeduError(f"seeds must be whole numbers of at least 0, got {quoted(seed)}")
    if not shots or not seeds:
        raise ClipeduError("give at least one number of shots and one seed")


def _shared_classes(train: Pairs, test: Pairs) -> tuple[list[int], Tensor, Tensor]:
    """Return the classes that are trained on, and the labels of both sets as places among them."""
    for pairs in (train, test):
        if pairs.labels is None:
            raise ClipeduError(
                f"{pairs.name}/{pairs.split} has no labels: probes train on labels and are scored by them"
            )
    assert train.labels is not None and test.labels is not None
    if test.class_names is None:
        raise ClipeduError(f"{test.name}/{test.split} has no class names, which the zero-shot classifier reads")
    kept = np.unique(train.labels.numpy())
    missing = np.setdiff1d(test.labels.numpy(), kept)
    if len(missing):
        raise ClipeduError(
            f"{len(missing)} classes of {test.name}/{test.split} have no picture in {train.name}/{train.split} to train on, e.g. "
            f"class {missing[0]} {test.class_names[missing[0]]!r}"
        )
    if len(kept) < 2:
        raise ClipeduError(
            f"{train.name}/{train.split} has pictures of one class only: a probe needs at least 2 classes"
        )
    if kept[-1] >= len(test.class_names):
        raise ClipeduError(
            f"{train.name}/{train.split} has a label {kept[-1]}, and {test.name}/{test.split} has {len(test.class_names)} classes"
        )
    train_labels, test_labels = (
        torch.from_numpy(np.searchsorted(kept, labels.numpy())) for labels in (train.labels, test.labels)
    )
    return kept.tolist(), train_labels, test_labels
