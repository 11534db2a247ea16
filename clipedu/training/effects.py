"""Settings that do nothing beside others: a temperature for VICReg.

An experiment may hold them: a preset's temperature stays where only the loss is changed. But a person who types one expects
it to do something, so the commands refuse what was given in vain.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from clipedu.config.experiment import Experiment
from clipedu.losses import LOSSES
from clipedu.utils.errors import ClipeduError, quoted


def without_effect(experiment: Experiment, given: Collection[str]) -> dict[str, str]:
    """Return which of the given settings do nothing, each with the reason.

    A setting that is as it is by default asks for nothing, and is never among them.

    Args:
        experiment: with its loss, data and optimizer.
        given: names of fields that a user has set.
    """
    ex, plain = experiment, Experiment()
    found: dict[str, str] = {}
    takes = LOSSES[ex.loss].defaults
    if "temperature" not in takes:
        reason = f"loss={ex.loss!r} has no temperature"
        found |= {"temperature": reason, "learn_temperature": reason}
    if ex.loss == "sogclr" and "rho" in ex.loss_options and not ex.learn_temperature:
        found["loss_options"] = "rho counts for a learned temperature alone (learn_temperature=True)"
    if ex.start is None:
        found["start_weights"] = "start is none, so there is no model to start from (--from)"
    if ex.lora_rank is None:
        found["lora_options"] = "lora_rank is none, so there are no adapters"
    if not ex.entailment:
        found["entailment_options"] = "entailment=0.0 is no entailment"
    if not ex.foils:
        found["foil_kinds"] = "foils=0.0 is no foils"
    if ex.holdout is not None:
        found |= dict.fromkeys(
            ("eval_data", "zeroshot_data"), f"holdout={ex.holdout:g} scores on the pairs held out alone"
        )
    sets = {ex.data, ex.eval_data or ex.data, ex.zeroshot_data or "scenes"}
    if sets == {"scenes"}:
        found["resize"] = "scenes are drawn as squares"
    if "scenes" not in (ex.data, ex.eval_data, ex.zeroshot_data):
        found["data_seed"] = "it says which scenes are drawn, and there are none"
    return {name: why for name, why in found.items() if name in given and getattr(ex, name) != getattr(plain, name)}


def refuse_without_effect(experiments: Sequence[Experiment], given: Collection[str]) -> None:
    """Refuse settings that have no effect on any of some experiments.

    Args:
        experiments: one, or the cells of a grid or a comparison.
        given: names of fields that a user has set.
    Raises:
        ClipeduError: one that was given does nothing; the message says beside which other setting.
    """
    idle = [without_effect(experiment, given) for experiment in experiments]
    for name in idle[0] if idle else ():
        if all(name in one for one in idle):
            value = getattr(experiments[0], name)
            raise ClipeduError(f"{name}={quoted(value)} has no effect here: {idle[0][name]}. Leave it out")
