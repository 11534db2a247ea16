"""The page of a sweep, of frames made by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from clipedu import Experiment
from clipedu.report.sweep_page import best_text, write_sweep_report
from clipedu.studies.sweep.plan import make_plan
from clipedu.studies.sweep.table import best_rows, setting_rows


@pytest.fixture
def found(tmp_path):
    plan = make_plan(Experiment(), ["lr=1e-3,1e-2", "weight_decay=0,0.1"], ["loss=clip,<b>&"], seeds=[0, 1])
    rows = []
    for variant, settings in plan.variant_settings().items():
        for number, lr in enumerate((1e-3, 1e-2)):
            failed = variant == "loss=<b>&" and number == 1
            for seed in (0, 1):
                score = np.nan if failed else 20.0 + 10 * number + seed
                shared = {
                    "variant": variant,
                    "trial": number,
                    "state": "failed" if failed else "finished",
                    "seed": seed,
                }
                note = "the loss is not finite" if failed else ""
                rows.append(
                    {**shared, **settings, "lr": lr, "weight_decay": 0.1 * number, "average": score, "note": note}
                )
    trials = pd.DataFrame(rows)
    settings = setting_rows(trials, plan)
    run = SimpleNamespace(
        metrics={"tr@1": 40.0, "average": 41.0}, command="clipedu train --lr 0.01", environment={"torch": "2.15"}
    )
    runs = {"loss=clip": [run]}
    best = best_rows(settings, runs, plan)
    return SimpleNamespace(
        folder=tmp_path,
        plan=plan,
        trials=trials,
        settings=settings,
        best=best,
        runs=runs,
        complete=True,
        remarks=["heed this"],
    )


def test_the_page_says_what_was_chosen_by_what(found):
    assert write_sweep_report(found) == found.folder / "report.html"
    page = (found.folder / "report.md").read_text()
    for text in (
        "2 variants with 20 trials each (3 finished, 1 failed), seeds 0, 1",
        "Trials were trained without 10 % of the training pairs",
        "heed this",
        "| **loss=clip** | **0.01** | **0.1** | **30.50 ± 6.35** | **40.00** | **41.00** |",
        "1 trial failed, and is not tried again:",
        "the loss is not finite",
        "clipedu train --lr 0.01",
        "too high by luck",
        "| torch | 2.15 |",
    ):
        assert text in page, text
    html = (found.folder / "report.html").read_text()
    assert "loss=&lt;b&gt;&amp;" in html and "<b>&" not in html and html.count("<img") == 1


def test_a_sweep_without_a_score_has_a_page_too(found):
    found.trials["average"], found.trials["state"] = np.nan, "failed"
    found.settings = setting_rows(found.trials, found.plan)
    found.runs, found.complete = {}, False
    found.best = best_rows(found.settings, {}, found.plan)
    write_sweep_report(found)
    page = (found.folder / "report.md").read_text()
    assert "the same command goes on" in page and "No figure here: no trial has a score yet" in page
    assert best_text(found)[1] == [["loss=clip", *"–––"], ["loss=<b>&", *"–––"]]
