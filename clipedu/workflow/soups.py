"""Soups: the mean of the weights of many models.

    uniform    the mean of all
    greedy     in the order of their scores on pairs held out: each is added, and stays if the score of the mean of those that stay
               does not fall there

(Wortsman et al. 2022, arXiv:2203.05482.) A greedy soup is chosen by scores, so it needs pairs that no model was trained on and that it is not scored on in the end: the
part that `holdout` has kept from the training, or a set that the user names. `held_out_part` finds and checks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipedu.data.load import load_pairs
from clipedu.data.overlap import row_hashes, shared
from clipedu.data.pairs import Pairs
from clipedu.evaluation.metrics import METRICS
from clipedu.inference.batch_statistics import StatisticsData
from clipedu.runs.trained_rows import shared_with_training
from clipedu.training.datasets import evaluation_sets
from clipedu.utils.errors import ClipeduError, unknown_name
from clipedu.workflow.blending import OWN, Mixer, Scored, scores_on
from clipedu.workflow.opening import Opened

if TYPE_CHECKING:
    import pandas

SOUPS = ("uniform", "greedy")
FEW = 0.01  # share of equal pictures that chance may give
SOUP = "soup"  # its name in tables


@dataclass(frozen=True)
class Soup:
    """A soup, and what it was made of.

    Attributes:
        how: "uniform" or "greedy".
        names: of the models, as given.
        weights: how much of each, in this order.
        statistics: of batch norms in the soup: "recomputed", "interpolated" or "none".
        held_out: of a greedy soup, a row a model in the order of trial: model, alone (its score on the pairs held out), soup (the score
            there of the mean with it) and kept; None for a uniform one.
        table: scores on the scored sets, a row a model and score: model (the soup's is "soup"), weight, metric and value.
        scores: of the soup on the scored sets.
    """

    how: str
    names: tuple[str, ...]
    weights: tuple[float, ...]
    statistics: str
    held_out: pandas.DataFrame | None
    table: pandas.DataFrame
    scores: dict[str, float]


def blend_soup(
    models: Sequence[Opened],
    how: str,
    sets: Sequence[Pairs],
    *,
    held_out: Pairs | None = None,
    statistics: StatisticsData | None = None,
    progress: Scored | None = None,
) -> Soup:
    """Make a soup of models, and score it beside them.

    Args:
        models: two or more, which differ in their weights alone. They stay as they are.
        how: "uniform" or "greedy".
        sets: what to score on in the end.
        held_out: pairs by which a greedy soup is chosen (`held_out_part`).
        statistics: as in `clipedu.workflow.blending.blend_line`.
        progress: called with words for each score that was made, and the scores.
    Raises:
        ClipeduError: an unknown way, models that cannot be mixed, or a greedy soup without pairs held out.
        NotFinite: a weight or an embedding is not finite.
    """
    import pandas

    if how not in SOUPS:
        raise unknown_name("soup", how, SOUPS)
    if how == "greedy" and held_out is None:
        raise ClipeduError("a greedy soup is chosen by scores: give pairs held out for it (held_out=)")
    mixer, names = Mixer(models, statistics), [one.name for one in models]
    say = progress or (lambda words, scores: None)
    with mixer.restored():
        tried = None if held_out is None or how == "uniform" else _choose(mixer, names, held_out, say)
        kept = [tried is None or name in set(tried[tried["kept"]]["model"]) for name in names]
        weights = [mark / sum(kept) for mark in kept]
        rows = []
        for place, name in enumerate(names):
            scores = scores_on(mixer.mix(_alone(place, len(names)), statistics=OWN), sets)
            say(name, scores)
            rows += _rows(name, weights[place], scores)
        scores = scores_on(mixer.mix(weights, statistics=OWN if sum(kept) == 1 else None), sets)
        say(f"{how} {SOUP}", scores)
    table = pandas.DataFrame([*rows, *_rows(SOUP, 1.0, scores)])
    return Soup(how, tuple(names), tuple(weights), mixer.statistics, tried, table, scores)


def held_out_part(models: Sequence[Opened], scored: Sequence[Pairs], data: str | None = None) -> Pairs:
    """Return pairs by which a greedy soup can be chosen.

    Args:
        models: of which it is to be made.
        scored: the sets that it will be scored on.
        data: name of a set whose val split is to be taken; None takes what `holdout` has kept from the training of the first.
    Raises:
        ClipeduError: there are none, or they are trained on by a model, or scored on; says the way out.
    """
    way_out = "Train the models with --holdout 0.1, or name other pairs with --choose-data NAME"
    experiment = models[0].experiment
    if data is not None:
        part = load_pairs(
            data, "val", image_size=experiment.image_size, resize=experiment.resize, seed=experiment.data_seed
        )
    elif experiment.holdout is None:
        raise ClipeduError(
            f"a greedy soup is chosen by scores on pairs held out, and {models[0].name} was trained without any. {way_out}"
        )
    else:
        (part,) = evaluation_sets(experiment)
    for pairs in scored:
        if _too_many(shared(part, row_hashes(pairs)).pictures, part):
            raise ClipeduError(
                f"{part.name}/{part.split} shares pictures with {pairs.name}/{pairs.split}, which is scored: what is chosen on a set "
                "scores too high there. " + way_out
            )
    for one in models:
        found = None if one.run is None else shared_with_training(one.run.folder, part)
        if found is not None and _too_many(found.pictures, part):
            raise ClipeduError(
                f"{one.name} was trained on {found.pictures:,} of the {len(part):,} pictures of {part.name}/{part.split}, by which the "
                f"soup would be chosen. {way_out}"
            )
    return part


def _choose(mixer: Mixer, names: Sequence[str], held_out: Pairs, say: Scored) -> pandas.DataFrame:
    """Try each model in the order of its own score, and keep those with which the score of the mean does not fall."""
    import pandas

    def score(places: Sequence[int], words: str) -> float:
        weights = [(place in places) / len(places) for place in range(len(names))]
        scores = scores_on(mixer.mix(weights, statistics=OWN if len(places) == 1 else None), [held_out])
        say(words, scores)
        return scores["average"]

    alone = [score([place], f"{name}, held out") for place, name in enumerate(names)]
    kept: list[int] = []
    best, rows = 0.0, []
    for place in sorted(range(len(names)), key=lambda k: -alone[k]):
        together = alone[place] if not kept else score([*kept, place], f"with {names[place]}, held out")
        stays = not kept or together >= best
        if stays:
            kept, best = [*kept, place], together
        rows.append({"model": names[place], "alone": alone[place], "soup": together, "kept": stays})
    return pandas.DataFrame(rows)


def _alone(place: int, count: int) -> list[float]:
    return [float(k == place) for k in range(count)]


def _rows(name: str, weight: float, scores: dict[str, float]) -> list[dict[str, object]]:
    return [{"model": name, "weight": weight, "metric": k, "value": scores[k]} for k in METRICS if k in scores]


def _too_many(pictures: int, part: Pairs) -> bool:
    return pictures > FEW * len(part)
