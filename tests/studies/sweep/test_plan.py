"""A plan: its trials and variants, what makes two the same, and what is refused before anything runs."""

import pytest

from clipedu import Experiment
from clipedu.studies.sweep.plan import folder_name, make_plan
from tests.helpers.errors import message_of


def test_a_trial_is_trained_without_the_pairs_held_out_and_the_best_with_them(tiny):
    plan = make_plan(tiny, ["lr=1e-3,1e-2"], ["loss=clip,cyclip"], seeds=[3, 4])
    assert list(plan.variant_settings()) == ["loss=clip", "loss=cyclip"] and plan.trials_of_variant == 20
    trial = plan.trial("loss=cyclip", {"lr": 0.01}, 4)
    assert (trial.loss, trial.lr, trial.seed, trial.holdout, trial.evaluate_every) == (
        "cyclip",
        0.01,
        4,
        0.1,
        "0.25epoch",
    )
    best = plan.best("loss=cyclip", {"lr": 0.01}, 4)
    assert best == tiny.replace(loss="cyclip", lr=0.01, seed=4) and best.holdout is None
    assert make_plan(tiny, ["lr=1,2"], pruner="none").trial("all", {"lr": 1}, 0).evaluate_every is None
    own = make_plan(tiny.replace(evaluate_every=2), ["lr=1,2"])
    assert own.trial("all", {"lr": 1}, 0).evaluate_every == 2


def test_a_grid_has_each_combination_once(tiny):
    plan = make_plan(tiny, ["lr=1e-3,1e-2", "weight_decay=0..0.1:3"], sampler="grid")
    assert plan.trials_of_variant == 6
    assert plan.points()[:2] == [{"lr": 1e-3, "weight_decay": 0.0}, {"lr": 1e-3, "weight_decay": 0.05}]


def test_options_are_added_to_those_of_the_base():
    base = Experiment(loss="sogclr", loss_options={"rho": 8.0})
    plan = make_plan(base, ["loss_options.gamma=0.1..0.9"])
    assert plan.best("all", {"loss_options.gamma": 0.5}, 0).loss_options == {"rho": 8.0, "gamma": 0.5}


def test_trials_that_fine_tune_have_the_options_of_their_own_loss():
    base = Experiment(start="a-siglip", loss="siglip", loss_options={"bias": -10.0})
    plan = make_plan(base, ["lr=1e-3,1e-2"], ["loss=clip,siglip"])
    assert plan.best("loss=clip", {}, 0).loss_options == {} and plan.best("loss=clip", {}, 0).learn_temperature
    assert plan.best("loss=siglip", {}, 0) == base
    said = message_of(make_plan, base, ["embedding_dim=8,16"])
    assert said == "embedding_dim cannot be varied beside start='a-siglip', which fixes it"


@pytest.mark.parametrize(
    ("vary", "options", "message"),
    [
        ([], {}, "there is nothing to vary: name a setting"),
        (["lr=1,2"], {"sampler": "bayes"}, "unknown sampler 'bayes'. Allowed: tpe, random, grid"),
        (["lr=1,2"], {"pruner": "mean"}, "unknown pruner 'mean'. Did you mean 'median'?"),
        (["lr=1,2"], {"metric": "top1"}, "unknown metric 'top1'"),
        (["lr=1,2"], {"holdout": 1.0}, "holdout must be a number > 0 and < 1, got 1.0"),
        (["lr=1,2"], {"seeds": []}, "there are no seeds"),
        (["lr=1,2"], {"seeds": [0, 0]}, "seeds: 0 is given twice"),
        (["lr=1,2"], {"seeds": [-1]}, "seed=-1 must be at least 0"),
        (["lr=1,2"], {"trials": 0}, "trials=0 must be a whole number from 1 on"),
        (["lr=1,2"], {"trials": 2.5}, "trials=2.5 must be a whole number from 1 on"),
        (["lr=1,2"], {"sampler_seed": -1}, "sampler_seed=-1 must be"),
        (["lr=1,2"], {"sampler": "grid", "trials": 3}, "trials=3 does not fit a grid, which has its 2 combinations"),
        (["lr=1..2"], {"sampler": "grid"}, "lr=1..2 is a range, and a grid has values or points: give lr=1..2:5 for five points"),
        (["lr=1..2:200", "warmup=0..1:200"], {"sampler": "grid"}, "40,000 trials are too many (at most 10,000)"),
        (["train_size=100,200"], {}, "train_size cannot be varied: trials would be scored on other pairs"),
        (["lr=1,2"], {"variants": ["lr=1,2"]}, "lr is both varied and compared"),
        (["lr=1,2"], {"variants": ["warmup=0..1"]}, "variants are compared by values: give them, or points of the range"),
    ],
)  # fmt: skip
def test_what_is_refused(tiny, vary, options, message):
    assert message in message_of(make_plan, tiny, vary, **options)


def test_the_share_held_out_is_the_sweeps(tiny):
    assert "is not a setting of the experiment here, but of the sweep" in message_of(
        make_plan, tiny.replace(holdout=0.1), ["lr=1,2"]
    )


@pytest.mark.parametrize(
    ("vary", "variants", "message"),
    [
        (["loss=clip,simclr"], [], "loss=simclr: unknown loss 'simclr'"),
        (["optimizer_options.betta=0.9,0.95"], [], "optimizer_options.betta=0.9: optimizer 'adamw' does not take"),
        (["loss_options.gamma=0.5..2.0"], ["loss=sogclr"], "loss=sogclr, loss_options.gamma=2: "),
        (["loss_options.gamma=0.5,0.9"], ["loss=sogclr,clip"], "loss=clip, loss_options.gamma=0.5: "),
        (["batch_size=16,64"], [], "batch_size=64: batch_size=64 is larger than the data: train_size=48"),
        (["temperature=0.1,0.2"], ["loss=vicreg"], "temperature=0.1 has no effect here"),
    ],
)
def test_values_are_tried_beside_each_other_before_any_data_is_read(tiny, vary, variants, message):
    assert message in message_of(make_plan(tiny, vary, variants).check)


def test_two_sweeps_are_the_same_one_but_for_the_number_of_trials(tiny):
    plan = make_plan(tiny, ["lr=1e-3..1e-2"], trials=5)
    assert plan.facts() == make_plan(tiny.replace(seed=7, norms_every=3), ["lr=1e-3..1e-2"], trials=9).facts()
    for other in (
        make_plan(tiny.replace(warmup=0.2), ["lr=1e-3..1e-2"]),
        make_plan(tiny, ["lr=1e-3..1e-2:log"]),
        make_plan(tiny, ["lr=1e-3..1e-2"], seeds=[1]),
        make_plan(tiny, ["lr=1e-3..1e-2"], holdout=0.2),
        make_plan(tiny, ["lr=1e-3..1e-2"], ["loss=clip,cyclip"]),
    ):
        assert other.facts() != plan.facts()


def test_numbers_and_how_a_figure_shows_them(tiny):
    plan = make_plan(tiny, ["lr=1e-4..1e-2:log", "weight_decay=0,0.1", "loss=clip,cyclip", "epochs=1,100"])
    found = {name: (scale.log, scale.drawn) for name, scale in plan.numbers().items()}
    assert found == {"lr": (True, True), "weight_decay": (False, False), "epochs": (True, False)}


def test_names_of_folders():
    assert folder_name("loss=clip, image_encoder=a/b") == "loss=clip,image_encoder=a_b"
