"""`Plan`: a whole sweep as one object, checked before anything runs."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clipedu.config.experiment import HOW, OF_START, Experiment
from clipedu.config.named_settings import split_name, with_settings
from clipedu.evaluation.metrics import BY_RANK
from clipedu.plots.sweep import Scale
from clipedu.runs.paths import with_absolute_paths
from clipedu.studies.sweep.space import Axis, Range, Values, axes, shown
from clipedu.utils.checks import check_distinct, checked_choice, checked_number, is_finite_number
from clipedu.utils.errors import ClipeduError, quoted
from clipedu.workflow.starting import with_loss

SAMPLERS = {
    "tpe": "learns from the trials so far where to look (tree-structured Parzen estimator)",
    "random": "draws each trial anew",
    "grid": "takes each combination once",
}
PRUNERS = {
    "median": "stops a trial that is worse than the median of the others at the same time of its training",
    "hyperband": "gives little training to many trials and all of it to the best of them",
    "none": "trains each trial to its end",
}
METRICS_TO_CHOOSE_BY = ("average", *(key for key in BY_RANK if key.startswith(("tr@", "ir@"))))
EVALUATIONS = 4  # parts of a run after which it is scored, where a pruner looks and `evaluate_every` is not given
MOST_TRIALS = 10_000
MOST_CHECKED = 200  # combinations of a grid that are tried beforehand; of a larger one each value is, by itself
# What decides which pairs are held out or scored, so that trials could not be compared.
_OTHER_PAIRS = ("data", "train_size", "eval_data", "zeroshot_data", "class_names", "templates")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep tries.

    Attributes:
        base: what all trials share; its seed does not matter.
        vary: settings that are chosen, each over values or a range, by name.
        variants: settings that are compared; each combination of their values has trials, and a best setting, of its own.
        seeds: with which each trial is run; its score is the mean.
        trials: of each variant; a grid has as many as it has combinations.
        sampler, pruner: keys of `SAMPLERS` and `PRUNERS`.
        holdout: share of the training pairs that trials do not train on, and are scored on.
        metric: the score to choose by, on these pairs: of `METRICS_TO_CHOOSE_BY`.
        sampler_seed: of what the sampler draws.
        given: fields of `base` that the user has set, which stay with every loss.
    Raises:
        ClipeduError: one of them is not allowed.
    """

    base: Experiment
    vary: Mapping[str, Axis]
    variants: Mapping[str, Values] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    trials: int | None = None
    sampler: str = "tpe"
    pruner: str = "median"
    holdout: float = 0.1
    metric: str = "average"
    sampler_seed: int = 0
    given: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        checked_choice("sampler", self.sampler, list(SAMPLERS))
        checked_choice("pruner", self.pruner, list(PRUNERS))
        checked_choice("metric", self.metric, METRICS_TO_CHOOSE_BY)
        if isinstance(self.sampler_seed, bool) or not isinstance(self.sampler_seed, int) or self.sampler_seed < 0:
            raise ClipeduError(f"sampler_seed={quoted(self.sampler_seed)} must be a whole number from 0 on")
        checked_number("holdout", self.holdout, above=0, below=1)
        if not self.vary:
            raise ClipeduError("there is nothing to vary: name a setting, such as lr=1e-4..1e-2:log")
        if both := sorted(set(self.vary) & set(self.variants)):
            raise ClipeduError(f"{both[0]} is both varied and compared: name it once")
        for name in self.vary:
            if split_name(name)[0] in _OTHER_PAIRS:
                raise ClipeduError(
                    f"{name} cannot be varied: trials would be scored on other pairs, and could not be compared. Make variants "
                    f"of it: each variant has a best setting of its own"
                )
        if not self.seeds:
            raise ClipeduError("there are no seeds: give at least one, such as 0")
        check_distinct("seeds", self.seeds)
        for name in (*self.vary, *self.variants):
            if self.base.start is not None and name.partition(".")[0] in set(OF_START) - {"image_size"}:
                raise ClipeduError(f"{name} cannot be varied beside start={quoted(self.base.start)}, which fixes it")
        for seed in self.seeds:
            self.base.replace(seed=seed)
        if self.base.holdout is not None:
            raise ClipeduError(
                f"holdout={self.base.holdout:g} is not a setting of the experiment here, but of the sweep"
            )
        self._check_trials()

    def _check_trials(self) -> None:
        if self.sampler == "grid":
            for one in self.vary.values():
                if isinstance(one, Range):
                    raise ClipeduError(
                        f"{one} is a range, and a grid has values or points: give {one}:5 for five points, or the sampler tpe or random"
                    )
            count = len(self.points())
            if self.trials not in (None, count):
                raise ClipeduError(
                    f"trials={self.trials} does not fit a grid, which has its {count} combinations: leave it out"
                )
        else:
            count = self.trials_of_variant
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ClipeduError(f"trials={quoted(self.trials)} must be a whole number from 1 on")
        if count * len(self.variant_settings()) > MOST_TRIALS:
            raise ClipeduError(
                f"{count * len(self.variant_settings()):,} trials are too many (at most {MOST_TRIALS:,}): vary over fewer values, or "
                "draw some of them with the sampler random or tpe"
            )

    @property
    def trials_of_variant(self) -> int:
        """How many trials each variant has."""
        if self.sampler == "grid":
            return len(self.points())
        return 20 if self.trials is None else self.trials

    def points(self) -> list[dict[str, Any]]:
        """Return all combinations of the values; [] with a range.

        The last setting changes fastest.
        """
        if any(isinstance(one, Range) for one in self.vary.values()):
            return []
        values = [one.values for one in self.vary.values() if isinstance(one, Values)]
        return [dict(zip(self.vary, chosen, strict=True)) for chosen in itertools.product(*values)]

    def numbers(self) -> dict[str, Scale]:
        """Return how a figure shows each varied setting that is a number."""
        found = {}
        for name, one in self.vary.items():
            if isinstance(one, Range):
                found[name] = Scale(one.log, drawn=True)
            elif len(one.values) > 1 and all(is_finite_number(value) for value in one.values):
                low, high = min(one.values), max(one.values)
                found[name] = Scale(low > 0 and high > 10 * low)
        return found

    def variant_settings(self) -> dict[str, dict[str, Any]]:
        """Return the settings of each variant, by its name.

        The name is such as "loss=clip, geometry=lorentz"; "all" where none are compared.
        """
        if not self.variants:
            return {"all": {}}
        found = {}
        for chosen in itertools.product(*(one.values for one in self.variants.values())):
            settings = dict(zip(self.variants, chosen, strict=True))
            found[", ".join(f"{name}={shown(value)}" for name, value in settings.items())] = settings
        return found

    def trial(self, variant: str, settings: Mapping[str, Any], seed: int) -> Experiment:
        """Return the experiment of a trial and seed.

        Args:
            variant: of `variant_settings`.
            settings: of the trial, by name.
            seed: one of `seeds`.
        Raises:
            ClipeduError: the settings do not go together.
        """
        experiment = self.best(variant, settings, seed).replace(holdout=self.holdout)
        if self.pruner == "none" or experiment.evaluate_every is not None:
            return experiment
        part = f"{experiment.epochs / EVALUATIONS:.6f}".rstrip("0").rstrip(".")
        return experiment.replace(evaluate_every=f"{part}epoch")

    def best(self, variant: str, settings: Mapping[str, Any], seed: int) -> Experiment:
        """Return the experiment that is scored in the end.

        It is that of `trial`, with all training pairs.
        """
        chosen = {**self.variant_settings()[variant], **settings, "seed": seed}
        return with_settings(with_loss(self.base, chosen.get("loss", self.base.loss), self.given), chosen)

    def facts(self) -> dict[str, str]:
        """Return what makes two sweeps the same one, as words by name.

        How many trials there are may change.
        """
        base, _ = with_absolute_paths(self.base)
        kept = {name: value for name, value in dataclasses.asdict(base).items() if name not in (*HOW, "seed", "device")}
        own = {name: str(getattr(self, name)) for name in ("sampler", "pruner", "holdout", "metric", "sampler_seed")}
        if self.base.evaluate_every is not None and self.pruner != "none":
            own["evaluate_every"] = str(self.base.evaluate_every)
        return {
            **{name: str(value) for name, value in kept.items()},
            **own,
            "seeds": " ".join(map(str, self.seeds)),
            "vary": "; ".join(map(str, self.vary.values())),
            "variants": "; ".join(map(str, self.variants.values())) or "none",
        }

    def check(self) -> None:
        """Check all values beside the base, in each variant.

        No data is read.

        Raises:
            ClipeduError: a value that cannot work, which is named, or a setting that does nothing in any variant.
        """
        from clipedu.training.effects import refuse_without_effect
        from clipedu.training.objective import check_names

        if self.sampler == "grid" and self.trials_of_variant <= MOST_CHECKED:
            trials = self.points()
        else:
            ends = {
                name: one.values if isinstance(one, Values) else (one.low, one.high) for name, one in self.vary.items()
            }
            trials = [{name: value} for name, values in ends.items() for value in values]
        checked = []
        for variant, of_variant in self.variant_settings().items():
            for settings in trials:
                try:
                    checked.append(self.trial(variant, settings, self.seeds[0]))
                    check_names(checked[-1])
                except ClipeduError as error:
                    words = ", ".join(f"{name}={shown(value)}" for name, value in {**of_variant, **settings}.items())
                    raise ClipeduError(f"{words}: {error}") from None
        for name in (*self.vary, *self.variants):
            refuse_without_effect(checked, [split_name(name)[0]])


def folder_name(variant: str) -> str:
    """Return the name of a variant's folder.

    >>> folder_name("loss=clip, optimizer_options.betas=[0.9, 0.95]")
    'loss=clip,optimizer_options.betas=[0.9,0.95]'
    """
    return re.sub(r"[^\w.,=+\[\]-]+", "_", variant.replace(", ", ","))[:200]


def make_plan(
    base: Experiment,
    vary: Mapping[str, Any] | Sequence[str],
    variants: Mapping[str, Any] | Sequence[str] = (),
    **options: Any,
) -> Plan:
    """Return the plan of a sweep.

    Args:
        base: what all trials share.
        vary, variants: as `clipedu.studies.sweep.space.axes` takes them.
        options: further fields of `Plan`; None is the default.
    Raises:
        ClipeduError: something is not allowed.
    """
    compared = axes(variants)
    for one in compared.values():
        if isinstance(one, Range):
            raise ClipeduError(
                f"{one} is a range, and variants are compared by values: give them, or points of the range as in {one}:3"
            )
    given = {name: value for name, value in options.items() if value is not None}
    if "seeds" in given:
        given["seeds"] = tuple(given["seeds"])
    names = {name: one for name, one in compared.items() if isinstance(one, Values)}
    return Plan(base=base, vary=axes(vary), variants=names, **given)
