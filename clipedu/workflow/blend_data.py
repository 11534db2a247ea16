"""What a blend is scored on, and the pictures for its statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from clipedu.config.experiment import Experiment
from clipedu.data.load import load_pairs
from clipedu.data.pairs import Pairs
from clipedu.data.subset import Subset
from clipedu.inference.batch_statistics import PICTURES, StatisticsData, batch_norms, sides_apart
from clipedu.training.datasets import load_train
from clipedu.utils.errors import ClipeduError
from clipedu.workflow.opening import Opened, is_of_library, open_model


def open_all(names: Sequence[str]) -> list[Opened]:
    """Open the models of a blend, runs and released ones.

    A released model has the image size of the first run, and the weights of the run that started from it.

    Args:
        names: as those of `open_model`.
    Raises:
        ClipeduError: as `open_model`.
    """
    runs = {name: open_model(name) for name in names if not is_of_library(name)}
    first = next(iter(runs.values()), None)
    models = []
    for name in names:
        if name in runs:
            models.append(runs[name])
            continue
        begun = next((one.experiment for one in runs.values() if one.run and one.run.experiment.start == name), None)
        given: dict[str, Any] = {} if begun is None else {"weights": begun.start_weights, "seed": begun.seed}
        models.append(open_model(name, image_size=None if first is None else first.experiment.image_size, **given))
    return models


def leading(models: Sequence[Opened]) -> Opened:
    """Return the model whose settings a blend has.

    It is the first run, or the first model where there is none.
    """
    return next((one for one in models if one.run is not None), models[0])


def scoring_settings(
    first: Opened, *, eval_data: str | None = None, zeroshot_data: str | None = None, soup: bool = False
) -> Experiment:
    """Return the settings by which the sets of a blend are opened.

    They are those of the first model, with other sets where these are named. The pairs that `holdout` has kept from the training
    are the scored set of a line, as they are that of the run. Those of a soup may be what it is chosen by, so it is scored on the
    sets that the run would have without `holdout`.

    Args:
        first: the first model.
        eval_data, zeroshot_data: names of other sets.
        soup: whether it is one.
    """
    given = {"eval_data": eval_data, "zeroshot_data": zeroshot_data}
    changes: dict[str, str | None] = {name: value for name, value in given.items() if value is not None}
    if first.experiment.holdout is not None and (changes or soup):
        changes["holdout"] = None
    return first.experiment.replace(**changes)


def statistics_data(
    models: Sequence[Opened], *, how: str | None = None, data: str | None = None, pictures: int | None = None
) -> StatisticsData | None:
    """Return the pictures for batch-norm statistics.

    Args:
        models: to be blended; the training pairs of the first run are taken.
        how: "recompute", "interpolate", or None, which recomputes where there are batch norms.
        data: name of another set, of which the train split is taken.
        pictures: how many.
    Returns:
        None where no statistics are to be computed again.
    Raises:
        ClipeduError: a setting that would have no effect, or a set that is missing.
    """
    first = leading(models)
    given = {"--statistics": how, "--statistics-data": data, "--statistics-pictures": pictures}
    asked = [f"{option} {value}" for option, value in given.items() if value is not None]
    if not batch_norms(first.model, sides_apart([one.model for one in models])):
        if asked:
            raise ClipeduError(
                f"{asked[0]} has no effect: the models differ in no encoder with batch norms. Leave it out"
            )
        return None
    if how == "interpolate":
        if len(asked) > 1:
            raise ClipeduError(f"{asked[1]} has no effect with --statistics interpolate: leave out one of them")
        return None
    ex = first.experiment
    if data is not None:
        pairs: Pairs = load_pairs(data, "train", image_size=ex.image_size, resize=ex.resize, seed=ex.data_seed)
    elif first.run is None:
        raise ClipeduError(
            f"{first.name} has batch norms, whose statistics are recomputed on training pictures, and is no run that says which: give "
            "--statistics-data NAME, or --statistics interpolate"
        )
    else:
        pairs = load_train(ex)
    return StatisticsData(pairs, pictures or PICTURES, ex.batch_size)


def first_pairs(pairs: Pairs, most: int) -> Pairs:
    """Return the first rows of a set, at most so many."""
    return pairs if len(pairs) <= most else Subset(pairs, torch.arange(most), pairs.split)
