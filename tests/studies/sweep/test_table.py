"""The tables of a sweep, of studies made by hand."""

from types import SimpleNamespace

import pytest

from clipedu.studies.sweep.plan import make_plan
from clipedu.studies.sweep.table import at_ends, best_rows, setting_rows, trial_rows


def trial(number, lr, state="COMPLETE", scores=None, value=None, **kept):
    attributes = {"home": "here", "settings": {"lr": lr}} | kept
    if scores:
        attributes |= {"scores": scores, "seconds": dict.fromkeys(scores, 2.0)}
    return SimpleNamespace(
        number=number, state=SimpleNamespace(name=state), user_attrs=attributes, system_attrs={}, value=value
    )


@pytest.fixture
def plan(tiny):
    return make_plan(tiny, ["lr=1e-4..1e-1:log"], ["loss=clip,cyclip"], seeds=[0, 1])


@pytest.fixture
def studies():
    def study(*trials):
        return SimpleNamespace(get_trials=lambda **_: list(trials))

    return {
        "loss=clip": study(
            trial(0, 0.01, scores={"0": {"average": 20.0, "tr@1": 18.0}, "1": {"average": 24.0}}),
            trial(1, 0.02, scores={"0": {"average": 30.0}, "1": {"average": 34.0}}),
            trial(2, 0.03, "PRUNED", value=9.0),
            trial(3, 0.04, "FAIL", note="the loss is not finite"),
            trial(4, 0.05, "WAITING"),
        ),
        "loss=cyclip": study(trial(0, 0.0001, scores={"0": {"average": 10.0}}), trial(1, 0.01, "FAIL")),
    }


def test_a_row_a_trial_and_seed(studies, plan):
    rows = trial_rows(studies, plan)
    assert list(rows.columns[:6]) == ["variant", "trial", "state", "seed", "loss", "lr"]
    assert rows["state"].tolist() == [*["finished"] * 4, "pruned", "failed", "finished", "failed"]
    assert rows["seed"].fillna(-1).tolist() == [0, 1, 0, 1, -1, -1, 0, -1]
    assert rows["average"].fillna(-1).tolist() == [20, 24, 30, 34, 9, -1, 10, -1] and rows["loss"].iloc[-1] == "cyclip"
    assert (
        rows["note"].iloc[5] == "the loss is not finite" and rows["note"].iloc[7] == "its process was killed, each time"
    )


def test_a_value_none_is_a_word_beside_numbers(tiny):
    plan = make_plan(tiny, ["clip_grad=none,2"], seeds=[0])
    trials = [
        trial(n, 0.0, scores={"0": {"average": 9.0 - n}}, settings={"clip_grad": x}) for n, x in enumerate((None, 2.0))
    ]
    rows = trial_rows({"all": SimpleNamespace(get_trials=lambda **_: trials)}, plan)
    assert rows["clip_grad"].tolist() == setting_rows(rows, plan)["clip_grad"].tolist() == ["none", 2.0]


def test_a_row_a_setting_the_best_of_each_variant_first(studies, plan):
    rows = setting_rows(trial_rows(studies, plan), plan)
    assert (
        rows["trial"].tolist() == [1, 0, 0]
        and rows["mean"].tolist() == [32, 22, 10]
        and rows["runs"].tolist() == [2, 2, 1]
    )
    assert rows["interval"].iloc[0] == pytest.approx(12.706 * 2, rel=1e-4) and rows["interval"].isna().tolist() == [
        False,
        False,
        True,
    ]


def test_a_row_a_variant_with_what_was_scored_in_the_end(studies, plan):
    runs = {"loss=clip": [SimpleNamespace(metrics={"average": 40.0}), SimpleNamespace(metrics={"average": 44.0})]}
    best = best_rows(setting_rows(trial_rows(studies, plan), plan), runs, plan)
    assert best["variant"].tolist() == ["loss=clip", "loss=cyclip"] and best["lr"].tolist() == [0.02, 0.0001]
    assert (
        best["average mean"].iloc[0] == 42 and best["scored"].tolist() == [2, 0] and best["average mean"].isna().iloc[1]
    )
    assert best["tr@1 mean"].isna().all()


def test_a_sweep_without_any_score_has_empty_tables(plan):
    empty = {name: SimpleNamespace(get_trials=lambda **_: []) for name in plan.variant_settings()}
    rows = trial_rows(empty, plan)
    assert rows.empty and setting_rows(rows, plan).empty and best_rows(setting_rows(rows, plan), {}, plan).empty


def test_a_best_value_at_an_end_is_told(tiny):
    plan = make_plan(tiny, ["lr=1e-4..1e-2:log", "weight_decay=0,0.05,0.1", "warmup=0,0.1", "loss=clip,cyclip,dcl"])
    (line,) = at_ends({"all": {"lr": 1e-3, "weight_decay": 0.1, "warmup": 0.0, "loss": "clip"}}, plan)
    assert (
        line
        == "The best weight_decay, 0.1, is at an end of what was tried (weight_decay=0,0.05,0.1): a better one may be beyond it."
    )
    two = at_ends(dict.fromkeys("ab", {"lr": 9.9e-3, "weight_decay": 0.05, "warmup": 0.0, "loss": "clip"}), plan)
    assert len(two) == 2 and two[0].startswith("The best lr of a, 0.0099, is at an end")
