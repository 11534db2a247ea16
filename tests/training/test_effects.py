"""Settings given in vain: found by what they do, and refused."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from clipedu import Experiment
from clipedu.geometry import build_geometry
from clipedu.losses import LOSSES
from clipedu.training.effects import refuse_without_effect, without_effect
from clipedu.training.objective import build_objective
from clipedu.utils.errors import ClipeduError
from tests.helpers.errors import message_of

CHANGES = {
    "temperature": 0.3,
    "learn_temperature": True,
    "entailment": 0.2,
    "entailment_options": {"min_radius": 0.3},
    "geometry": "lorentz",
}


def behaviour(experiment: Experiment) -> list[torch.Tensor]:
    """What an objective does with a batch: its value, and the gradients of everything."""
    torch.manual_seed(0)
    image, text = torch.randn(2, 8, 16).requires_grad_().unbind()
    loss = build_objective(experiment, build_geometry(experiment.geometry, 16), 8)
    total = loss(image, text, torch.arange(8)).total
    learned = [p for p in loss.parameters() if p.requires_grad]
    return [total, *torch.autograd.grad(total, [image, text, *learned], allow_unused=True, materialize_grads=True)]


def equal(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(("loss", "name"), list(itertools.product(LOSSES, CHANGES)))
def test_a_setting_of_the_objective_does_something_or_is_named(loss, name):
    """VICReg takes raw projections, so a geometry changes its evaluation alone."""
    base = Experiment(loss=loss, geometry="euclidean", temperature=0.2)
    changed = base.replace(**{name: CHANGES[name]})
    try:
        does = not equal(behaviour(base), behaviour(changed))
    except ClipeduError:
        return  # refused anyway
    if (loss, name) in (
        ("vicreg", "geometry"),
        ("siglip", "learn_temperature"),
    ):  # it has effects elsewhere; it is so always
        assert not does and not without_effect(changed, [name])
        return
    assert does == (name not in without_effect(changed, [name]))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_number_among_the_options_of_a_loss_does_something_or_is_named(loss):
    base = Experiment(loss=loss)
    for name, default in LOSSES[loss].defaults.items():
        if isinstance(default, float) and name != "temperature":
            changed = base.replace(loss_options={name: default / 2 if default else 0.5})
            does = not equal(steps(base), steps(changed))
            assert does == ("loss_options" not in without_effect(changed, ["loss_options"])), name


def steps(experiment: Experiment) -> list[torch.Tensor]:
    """Values and gradients of three steps, with what the loss remembers between them."""
    torch.manual_seed(0)
    loss, found = build_objective(experiment, build_geometry("cosine", 16), 8).train(), []
    for step in range(3):
        loss.progress = step / 3
        image, text = torch.randn(2, 8, 16).requires_grad_().unbind()
        total = loss(image, text, torch.arange(8)).total
        found += [total.detach(), *torch.autograd.grad(total, [image, text])]
    return found


def test_what_is_refused_and_what_not():
    vicreg = Experiment(loss="vicreg", temperature=0.1)
    assert message_of(refuse_without_effect, [vicreg], ["temperature"]) == (
        "temperature=0.1 has no effect here: loss='vicreg' has no temperature. Leave it out"
    )
    refuse_without_effect([vicreg], [])  # a preset's
    refuse_without_effect([vicreg, vicreg.replace(loss="clip")], ["temperature"])  # a grid's
    refuse_without_effect([Experiment(loss="vicreg")], ["temperature"])  # "none" was given
    options = Experiment(entailment_options={"min_radius": 0.2}, geometry="lorentz")
    assert "entailment=0.0 is no entailment" in message_of(refuse_without_effect, [options], ["entailment_options"])
    refuse_without_effect([options.replace(entailment=0.2)], ["entailment_options"])
    rho = Experiment(loss="sogclr", loss_options={"rho": 1.0}, temperature=0.05)
    assert "rho counts for a learned temperature alone" in message_of(refuse_without_effect, [rho], ["loss_options"])
    refuse_without_effect([rho.replace(learn_temperature=True)], ["loss_options"])
    squash = Experiment(resize="squash")
    assert "scenes are drawn as squares" in message_of(refuse_without_effect, [squash], ["resize"])
    refuse_without_effect([squash.replace(eval_data="coco-5k")], ["resize"])


def test_names_are_fields():
    names = {field.name for field in dataclasses.fields(Experiment)}
    assert {"temperature", "learn_temperature", "entailment_options", "resize"} <= names


def test_other_sets_do_nothing_where_pairs_are_held_out():
    experiment = Experiment(holdout=0.1, eval_data="coco-5k")
    assert without_effect(experiment, ["eval_data", "holdout"]) == {
        "eval_data": "holdout=0.1 scores on the pairs held out alone"
    }
    assert without_effect(Experiment(eval_data="coco-5k"), ["eval_data"]) == {}


def test_kinds_of_foils_without_foils():
    kinds = Experiment(foil_kinds=["place"])
    message = message_of(refuse_without_effect, [kinds], ["foil_kinds"])
    assert message.startswith("foil_kinds=") and "foils=0.0 is no foils" in message
    refuse_without_effect([kinds.replace(foils=1.0)], ["foil_kinds"])
