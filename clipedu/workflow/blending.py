"""Scores along the line between two models, and mixes of any number.

    blend_line(a, b, sets)      scores of (1 - t) A + t B for t from 0 to 1
    Mixer(models)               one model, with the weights of any mix in it

The ends are A and B themselves, with their own batch-norm statistics, and score what `clipedu evaluate` says. Between them the
statistics are computed again for each point (`clipedu.inference.batch_statistics`); so that the line compares like with like,
the ends are then scored a second time, with statistics that are computed in this way too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clipedu.data.pairs import Pairs
from clipedu.data.tokenizer import Tokenizer
from clipedu.evaluation.barrier import Barrier, barrier
from clipedu.evaluation.metrics import METRICS
from clipedu.evaluation.scoring import average
from clipedu.evaluation.uncertainty import standard_errors
from clipedu.inference.batch_statistics import StatisticsData, batch_norms, recompute_statistics, sides_apart
from clipedu.models import DualEncoder
from clipedu.models.interpolation import check_mixable, weighted_mean
from clipedu.runs.kept import tokenizer_sum
from clipedu.utils.errors import ClipeduError
from clipedu.workflow.opening import Opened
from clipedu.workflow.scoring import score_set

if TYPE_CHECKING:
    import pandas

OWN, RECOMPUTED, INTERPOLATED, NONE = "own", "recomputed", "interpolated", "none"  # statistics of batch norms
_PROBE = ["A Red-Circle, left of 12 blue squares.", "über <b>&amp;</b> the_house"]  # for tokenizers of other libraries
ONLY_TRAINING = ("drop",)  # in the names of options that change nothing when a model is scored

Scored = Callable[[str, dict[str, float]], None]


class Mixer:
    """One model, with the weights of any mix of N models in it.

    Args:
        models: N that differ in weights alone; the first one's is the model that is filled.
        statistics: the pictures by which batch-norm statistics are computed again; None mixes them like weights.
    Attributes:
        model: the model; its weights are those of the last mix.
        statistics: `RECOMPUTED`, `INTERPOLATED`, or `NONE` where no encoder with batch norms differs.
    Raises:
        ClipeduError: the models cannot be mixed; names what differs.
    """

    def __init__(self, models: Sequence[Opened], statistics: StatisticsData | None):
        check_alike(models)
        self.model: DualEncoder = models[0].model
        self._states = [{k: v.clone() for k, v in one.model.state_dict().items()} for one in models]
        self._data = statistics
        kept = INTERPOLATED if statistics is None else RECOMPUTED
        self._sides = sides_apart([one.model for one in models])
        self.statistics = kept if batch_norms(self.model, self._sides) else NONE

    def mix(self, weights: Sequence[float], *, statistics: str | None = None) -> DualEncoder:
        """Return the model with a mix of the weights.

        Args:
            weights: N numbers whose sum is 1.
            statistics: `OWN` leaves those of a single model as they are; None does what the mixer does.
        """
        self.model.load_state_dict(weighted_mean(self._states, weights))
        if self._data is not None and self.statistics == RECOMPUTED and statistics != OWN:
            recompute_statistics(self.model, self._data, self._sides)
        return self.model

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Put the first model's own weights back afterwards."""
        try:
            yield
        finally:
            self.model.load_state_dict(self._states[0])


def check_alike(models: Sequence[Opened]) -> None:
    """Check that models differ in their weights alone.

    Raises:
        ClipeduError: there are less than two, one is given twice, or one differs from the first in another way; names it.
    """
    if len(models) < 2:
        raise ClipeduError(
            f"a blend is made of at least two models; given: {', '.join(one.name for one in models) or 'none'}"
        )
    places = [one.name if one.run is None else str(one.run.folder.resolve()) for one in models]
    if twice := next((one.name for one, place in zip(models, places, strict=True) if places.count(place) > 1), None):
        raise ClipeduError(f"{twice} is given twice: give each model once")
    first = models[0]
    for other in models[1:]:
        if what := _differing_settings(first, other):
            raise ClipeduError(
                f"{other.name} cannot be blended with {first.name}: {what}, so that equal weights mean different things"
            )
        check_mixable({first.name: first.model, other.name: other.model})
        if _reading(first.model.tokenizer) != _reading(other.model.tokenizer):
            raise ClipeduError(
                f"{other.name} cannot be blended with {first.name}: their tokenizers differ, so that equal rows of the token table "
                "mean different words"
            )


def _reading(tokenizer: Any) -> Any:
    """Return what two tokenizers that read alike have in common."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer_sum(tokenizer)
    return tokenizer.vocab_size, tokenizer.length, [part.tolist() for part in tokenizer.encode(_PROBE)]


def _differing_settings(one: Opened, other: Opened) -> str:
    """Return which settings of two runs make other functions of equal weights; "" where none does."""
    if one.run is None or other.run is None:
        return ""
    a, b = one.experiment, other.experiment
    for name in ("image_encoder", "text_encoder", "geometry", "image_size", "text_length"):
        if getattr(a, name) != getattr(b, name):
            return f"{name} is {getattr(b, name)!r} there and {getattr(a, name)!r} here"
    for name in ("image_options", "text_options", "geometry_options"):
        pair = [{k: v for k, v in getattr(x, name).items() if not any(w in k for w in ONLY_TRAINING)} for x in (a, b)]
        if pair[0] != pair[1]:
            return f"{name} are {pair[1]} there and {pair[0]} here"
    return ""


@dataclass(frozen=True)
class Line:
    """Scores along the line between two models.

    Attributes:
        names: of A and B.
        statistics: of batch norms between the ends: "recomputed", "interpolated" or "none".
        table: a row a point and score, with columns t, statistics ("own" for the ends as they are), metric (a key of
            `METRICS`) and value.
        errors: one standard error of each score by rank, at the better end.
    """

    names: tuple[str, str]
    statistics: str
    table: pandas.DataFrame
    errors: dict[str, float]

    def curve(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Return t and a score at each point of the line.

        All points have statistics of one kind.

        Raises:
            ClipeduError: a score that the sets do not have.
        """
        rows = self.table[self.table["metric"] == metric]
        if not len(rows):
            known = ", ".join(dict.fromkeys(self.table["metric"]))
            raise ClipeduError(f"{metric!r} was not scored on this line. There are: {known}")
        if self.statistics == RECOMPUTED:
            rows = rows[rows["statistics"] == RECOMPUTED]
        rows = rows.sort_values("t")
        return rows["t"].to_numpy(), rows["value"].to_numpy()

    def ends(self, metric: str) -> tuple[float, float]:
        """Return a score of A and B as they are."""
        rows = self.table[(self.table["metric"] == metric) & self.table["t"].isin((0.0, 1.0))]
        own = rows[rows["statistics"] != RECOMPUTED].set_index("t")["value"]
        return float(own[0.0]), float(own[1.0])

    def barrier(self, metric: str = "average") -> Barrier:
        """Return how deep the line dips in a score.

        Raises:
            ClipeduError: no point between the ends, or no such score.
        """
        return barrier(*(x.tolist() for x in self.curve(metric)))


def blend_line(
    a: Opened,
    b: Opened,
    sets: Sequence[Pairs],
    *,
    points: int = 11,
    statistics: StatisticsData | None = None,
    progress: Scored | None = None,
) -> Line:
    """Score the models on the straight line between two.

    Args:
        a, b: the ends, which differ in their weights alone.
        sets: what to score on, as `clipedu.training.datasets.evaluation_sets` opens them.
        points: how many, the ends among them; at least 2.
        statistics: training pictures by which batch-norm statistics are computed again at each point; None mixes the statistics
            like weights, with which the middle of the line looks worse than it is. Models without batch norms do not need it.
        progress: called with words for each point and its scores.
    Raises:
        ClipeduError: the models cannot be mixed, or less than 2 points.
        NotFinite: a weight or an embedding is not finite.
    """
    import pandas

    if points < 2:
        raise ClipeduError(f"points={points} must be at least 2: the ends are two of them")
    mixer = Mixer([a, b], statistics)
    own = OWN if mixer.statistics in (RECOMPUTED, INTERPOLATED) else NONE
    places = [(t, own if t in (0.0, 1.0) else mixer.statistics) for t in (k / (points - 1) for k in range(points))]
    if mixer.statistics == RECOMPUTED:
        places += [(0.0, RECOMPUTED), (1.0, RECOMPUTED)]
    rows, errors = [], dict[str, float]()
    with mixer.restored():
        for t, kind in places:
            scores = scores_on(mixer.mix([1 - t, t], statistics=kind), sets)
            rows += [{"t": t, "statistics": kind, "metric": k, "value": scores[k]} for k in METRICS if k in scores]
            if t in (0.0, 1.0):
                errors = {key: max(error, errors.get(key, 0.0)) for key, error in standard_errors(scores).items()}
            if progress is not None:
                progress(
                    f"{t:.4g}" + (", statistics recomputed" if t in (0.0, 1.0) and kind == RECOMPUTED else ""), scores
                )
    return Line((a.name, b.name), mixer.statistics, pandas.DataFrame(rows), errors)


def scores_on(model: DualEncoder, sets: Sequence[Pairs]) -> dict[str, float]:
    """Return the scores of a model on all sets, with their average."""
    scores: dict[str, float] = {}
    for pairs in sets:
        scores |= score_set(model, pairs, progress=False)[0]
    return scores | {"average": average(scores)}
