"""Values of fields: what is allowed comes back as it is kept, all else is told with field and rule."""

import dataclasses

import pytest

from clipedu.config.experiment import Experiment
from clipedu.config.field_checks import LARGEST_WHOLE, checked_field
from tests.helpers.errors import message_of


def field(kind, **rules):
    made = dataclasses.make_dataclass("Made", [("size", kind, dataclasses.field(default=None, metadata=rules))])
    (spec,) = dataclasses.fields(made)
    return spec


@pytest.mark.parametrize(
    ("spec", "given", "kept"),
    [
        (field("float", above=0), 1, 1.0),
        (field("int", at_least=1), 1, 1),
        (field("int | None"), None, None),
        (field("str", also=("none",)), "none", "none"),
        (field("list[str]", choices=("a", "b")), "a", ["a"]),
        (field("list[str]", choices=("a", "b")), ("b", "a"), ["b", "a"]),
        (field("dict[str, Any]", taken=()), {"betas": (0.9, 0.99)}, {"betas": [0.9, 0.99]}),
        (field("int", interval=("time",)), "2min", "2min"),
    ],
)
def test_a_value_as_it_is_kept(spec, given, kept):
    found = checked_field(spec, given)
    assert found == kept and type(found) is type(kept)


@pytest.mark.parametrize(
    ("spec", "given", "words"),
    [
        (field("float", above=0), 0.0, "size=0.0 must be above 0"),
        (field("float"), float("nan"), "size=nan must be a finite number"),
        (field("int", at_least=1), True, "size=True must be an int"),
        (field("int"), LARGEST_WHOLE + 1, f"must be at most {LARGEST_WHOLE}"),
        (field("str"), "", "size='' must not be empty"),
        (field("str", choices=("a", "b")), "c", "Allowed: a, b"),
        (field("list[str]", choices=("a", "b")), 3, "size=3 must be a list of names out of a, b"),
        (field("list[str]", choices=("a", "b")), ["a", "a"], "'a' is given twice"),
        (field("dict[str, Any]", taken=("lr",)), {"lr": 1}, "the experiment sets it itself"),
        (field("int", interval=("time",)), "soon", "size='soon'"),
    ],
)
def test_what_is_not_allowed_is_told(spec, given, words):
    assert words in message_of(checked_field, spec, given)


def test_every_default_of_an_experiment_passes_and_stays():
    experiment = Experiment()
    for spec in dataclasses.fields(experiment):
        assert checked_field(spec, getattr(experiment, spec.name)) == getattr(experiment, spec.name)
