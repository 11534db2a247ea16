"""Settings by name, and items of options."""

import pytest

from clipedu import Experiment
from clipedu.config.named_settings import number_kind, split_name, with_settings
from tests.helpers.errors import message_of


def test_items_of_options_are_added_to_those_that_are_there():
    base = Experiment(loss_options={"rho": 8.0})
    changed = with_settings(base, {"lr": 0.5, "loss_options.gamma": 0.5, "loss_options.form": "course"})
    assert changed.lr == 0.5 and changed.loss_options == {"rho": 8.0, "gamma": 0.5, "form": "course"}
    assert base.loss_options == {"rho": 8.0}
    assert with_settings(base, {"loss_options.rho": 1}).loss_options == {"rho": 1}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("lr", "float"), ("epochs", "int"), ("clip_grad", "float"), ("train_size", "int"), ("loss", None), ("image_frozen", None),
     ("evaluate_every", None), ("loss_options.gamma", "any"), ("clean_captions", None)],
)  # fmt: skip
def test_which_settings_are_numbers(name, kind):
    assert number_kind(name) == kind


def test_what_is_told_of_wrong_names():
    assert "unknown setting 'l'" in message_of(split_name, "l")
    assert "'loss_options' holds several options: name one of them, as in loss_options.NAME" in message_of(
        split_name, "loss_options"
    )
    assert "holds several options" in message_of(split_name, "loss_options.")
    assert "'lr.x': lr has no items. Those that have are: image_options" in message_of(split_name, "lr.x")
    assert "lr=-1 must be above 0" in message_of(with_settings, Experiment(), {"lr": -1}).replace("-1.0", "-1")
