"""Where a recipe says that norms should be: the textbook's balance, walks step by step, and what is left of the start."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from clipedu import DECAY_LAWS, build_optimizer
from clipedu.norms.recipe_balance import TABLE, TrainingRecipe, expected_norms, scheduled_rates, shrinks
from clipedu.optim import learning_rate
from tests.helpers.errors import message_of


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 4)
        self.body = nn.Linear(6, 5)
        self.image_projection = nn.Linear(5, 4)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Two()


def rows_of(model, **settings):
    recipe = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.1} | settings.pop("recipe", {})
    return expected_norms(model, TrainingRecipe(**recipe), **settings).set_index("layer")


def test_the_balance_at_the_peak_is_that_of_the_textbook(model):
    rows = rows_of(model)
    assert rows["balance"]["body.weight"] == pytest.approx(math.sqrt(1e-3 * 30 / (2 * 0.1)), rel=1e-3)
    assert rows["why"]["body.bias"] == "not decayed" and math.isnan(rows["balance"]["body.bias"])
    assert rows["why"]["table.weight"] == TABLE and rows["balance"]["table.weight"] == pytest.approx(1.0, rel=1e-3)
    assert rows["end"].isna().all() and rows["left"].isna().all() and "frozen.weight" not in rows.index


@pytest.mark.parametrize("law", list(DECAY_LAWS))
def test_the_end_of_a_schedule_is_that_of_the_recursion_typed_out(model, law):
    peak, lam, steps = 1e-2, 0.5, 400
    rates = np.array([learning_rate(t, peak=peak, total=steps, warmup=40) for t in range(steps)])
    recipe = {
        "lr": peak,
        "weight_decay": lam,
        "options": {"decay_law": law, "heads": ()} if law != "constant" else {},
        "rates": rates,
    }
    row = rows_of(model, recipe=recipe, start={"body.weight": 3.0}).loc["body.weight"]
    square, left = 9.0, 1.0
    shared = {"lr_max": peak, "weight_decay": lam}
    for lr in rates:  # each minibatch counted once: AdamW's contribution is one a number
        s = lr * DECAY_LAWS[law].build(lr, **shared)
        square, left = (1 - s) ** 2 * square + lr**2 * 30, left * (1 - s) ** 2
    assert row["end"] == pytest.approx(math.sqrt(square), rel=0.02) and row["left"] == pytest.approx(left, rel=1e-3)
    assert row["turns"] == pytest.approx(-math.log(left), rel=0.01)


def test_without_a_start_the_end_is_known_only_where_it_does_not_matter(model):
    short, long = (
        rows_of(model, recipe={"lr": 1e-2, "weight_decay": 1.0, "rates": scheduled_rates(n, 1e-2)}).loc["body.weight"]
        for n in (20, 2000)
    )
    assert math.isnan(short["end"]) and short["left"] > 0.5
    assert long["left"] < 1e-3 and long["end"] < long["balance"]  # the cosine ends at 0


def test_a_table_counts_the_rows_that_ever_got_a_gradient(model):
    measured = pd.DataFrame({"layer": ["table.weight"], "active": [50.0]})
    rows = rows_of(model, measured=measured)
    assert rows["balance"]["table.weight"] == pytest.approx(0.5, rel=1e-3) and rows["why"]["table.weight"] == ""


def test_optimizers_without_a_balance_say_why(model):
    rows = rows_of(model, recipe={"optimizer": "adam"})
    assert "no steady norm of its own" in rows["why"]["body.weight"]
    assert "there is no theory" in rows_of(model, recipe={"optimizer": "lamb"})["why"]["body.weight"]
    assert "does not normalise its steps" in rows_of(model, recipe={"optimizer": "sgdw"})["why"]["body.weight"]
    measured = pd.DataFrame(
        {
            "layer": "body.weight",
            "weight": [2.0],
            "gradient": [0.5],
            "lr": [1e-3],
            "injection": [1e-6],
            "active": [30.0],
        }
    )
    rows = rows_of(model, recipe={"optimizer": "sgdw", "rates": scheduled_rates(9, 1e-3)}, measured=measured)
    assert rows["balance"]["body.weight"] > 0 and math.isnan(rows["end"]["body.weight"])


@pytest.mark.parametrize("name", ["adamw", "adamc", "lion", "scionc"])
def test_shrinks_are_those_of_the_optimizer_at_each_rate(model, name):
    optimizer = build_optimizer(model, name, lr=1e-2, weight_decay=0.1)
    (group,) = [g for g in optimizer.param_groups if any(p is model.body.weight for p in g["params"])]
    rates = np.linspace(0, 1e-2, 7)
    found = shrinks(optimizer, group, model.body.weight, rates)
    full = {"adamw": rates * 0.1, "lion": rates * 0.1, "adamc": rates**2 * 0.1 / 1e-2}.get(name)
    if full is not None:
        assert found == pytest.approx(full, rel=1e-3, abs=1e-9)
    assert found[0] == 0 and (np.diff(found) > 0).all() and group["lr"] == 1e-2


def test_the_schedule_is_that_of_training():
    found = scheduled_rates(10, 0.5, warmup=0.2)
    assert found.tolist() == [learning_rate(t, peak=0.5, total=10, warmup=2) for t in range(10)]
    assert scheduled_rates(3, 0.5, schedule="constant").tolist() == [0.5] * 3
    assert "schedule" in message_of(scheduled_rates, 3, 0.5, schedule="linear")


def test_a_recipe_in_words():
    assert (
        TrainingRecipe("adamw", 1e-3, 0.1).words
        == "adamw, peak lr 0.001, weight decay 0.1, a number of steps that is not known"
    )
    words = TrainingRecipe("adamc", 1e-3, 0.1, {"eps": 1e-6}, np.zeros(2000), "cosine").words
    assert words == "adamc, peak lr 0.001, weight decay 0.1, eps 1e-06, 2,000 steps, schedule cosine"


def test_a_layer_with_its_own_rate_has_its_own_balance_and_end(model):
    rates = scheduled_rates(300, 1e-3)
    scaled = rows_of(model, recipe={"rates": rates, "lr_scales": {"body.weight": 0.25}}, start={"body.weight": 2.0})
    alone = {"lr": 0.25e-3, "rates": 0.25 * rates}
    same = rows_of(model, recipe=alone, start={"body.weight": 2.0})
    for column in ("balance", "end", "left"):
        assert scaled[column]["body.weight"] == pytest.approx(same[column]["body.weight"], rel=1e-6)
