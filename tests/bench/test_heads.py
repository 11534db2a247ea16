"""The bench of heads: its table holds what was measured, and runs that differ are refused."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from clipedu.bench import heads
from clipedu.bench.heads import DECAYS, RATES, bench_heads
from tests.helpers.errors import message_of


@pytest.fixture
def ways(monkeypatch):
    """Both ways, as functions that only note what they are asked for."""
    asked, off = [], [0.0]
    monkeypatch.setattr(heads, "load_data", lambda experiment: "data")

    def run(experiment, seconds, more=0.0):
        return SimpleNamespace(
            experiment=experiment, seconds=seconds, history=pd.DataFrame({"loss": [2.0, 1.0 + more]})
        )

    def fit(experiment, folder, **options):
        asked.append(("fit", experiment, folder.name, options, torch.get_num_threads()))
        return run(experiment, 2.0)

    def fit_heads(experiments, folder=None, **options):
        asked.append(("fit_heads", len(experiments), folder, options, torch.get_num_threads()))
        return [run(experiment, 0.5, off[0]) for experiment in experiments]

    return SimpleNamespace(asked=asked, off=off, call=lambda **o: bench_heads(fit, fit_heads, **o))


def test_the_table_holds_what_was_measured(ways):
    lines, before = [], torch.get_num_threads()
    rows = ways.call(settings=6, sample=3, rounds=2, threads=(1, 2), write=lines.append)
    assert torch.get_num_threads() == before
    assert [(row["threads"], row["what"]) for row in rows] == [
        (n, w) for n in (1, 2) for w in ("whole runs", "training")
    ]
    training = rows[1]
    assert (training["single"], training["stacked"], training["ratio"], training["processor"]) == (2.0, 0.5, 0.25, None)
    assert rows[0]["ratio"] == pytest.approx(rows[0]["stacked"] / rows[0]["single"]) and rows[0]["difference"] == 0
    assert "| 2 | training | 2.00 | 0.500 | **0.25** |" in "\n".join(lines)
    timed = ways.asked[2:]  # after the warm-up
    assert [name for name, *_ in timed] == ["fit", "fit_heads", "fit", "fit"] * 4
    assert [threads for *_, threads in timed] == [1] * 8 + [2] * 8
    assert all(options["data"] == "data" for *_, options, _ in timed)
    singles = {where: (ex.lr, ex.weight_decay) for name, ex, where, *_ in timed if name == "fit"}
    assert len(set(singles.values())) == 3


def test_all_settings_of_the_grid_differ(ways):
    seen = []
    bench_heads(
        lambda ex, *_, **__: SimpleNamespace(seconds=1.0, history=pd.DataFrame({"loss": [1.0]})),
        lambda many, *_, **__: seen.append(many) or [SimpleNamespace(seconds=1.0, history=pd.DataFrame({"loss": [1.0]}))] * len(many),
        sample=1, rounds=1, threads=(1,), write=lambda line: None,
    )  # fmt: skip
    assert len(seen[-1]) == len(RATES) * len(DECAYS) == 64 == len({(ex.lr, ex.weight_decay) for ex in seen[-1]})
    assert all(ex.image_frozen and ex.text_frozen and ex.train_size is None for ex in seen[-1])


def test_runs_that_differ_are_refused(ways):
    ways.off[0] = 0.01
    assert "differ from its single run's by 0.005" in message_of(lambda: ways.call(settings=2, sample=1, write=print))


@pytest.mark.parametrize("wrong", [{"settings": 0}, {"settings": 65}, {"sample": 9, "settings": 8}, {"rounds": 0}])
def test_numbers_out_of_range(wrong):
    name, value = next(iter(wrong.items()))
    assert f"{name}={value} must be at least 1" in message_of(lambda: bench_heads(print, print, **wrong))
