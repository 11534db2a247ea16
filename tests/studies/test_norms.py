"""The study of norms, on layers trained by AdamW on gradients that are noise, with and without a drift."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from clipedu.config.experiment import Experiment
from clipedu.norms import NormMonitor
from clipedu.optim import build_optimizer, learning_rate
from clipedu.studies.norms import WAYS, plot_study, predictions, steady_table, summary_table, write_study
from clipedu.utils.errors import ClipeduError

pytestmark = pytest.mark.xdist_group("norms compared")  # what is costly is made once

STEPS, LR, DECAY = 800, 0.01, 0.5


class Two(nn.Module):
    """`image_free` gets noise across itself, as under a normalisation; `text_bound` is pulled inward by its gradients."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.image_free = nn.Parameter(0.12 * torch.randn(40, 50, dtype=torch.float64))
        self.text_bound = nn.Parameter(0.12 * torch.randn(40, 50, dtype=torch.float64))
        self.text_rows = nn.Parameter(0.12 * torch.randn(10, 100, dtype=torch.float64))  # 3 rows never get a gradient
        self.text_bias = nn.Parameter(torch.ones(5, dtype=torch.float64))


def across(noise: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return noise - (noise * w).sum() / w.square().sum() * w


def trained(optimizer: str = "adamw", schedule: str = "constant", name: str = "a-seed0", every: int = 4):
    model = Two()
    made = build_optimizer(model, optimizer, lr=LR, weight_decay=DECAY, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(1)
    with NormMonitor(model, made, every=every, minibatch=True) as monitor:
        for step in range(STEPS):
            for group in made.param_groups:
                group["lr"] = learning_rate(step, peak=LR, total=STEPS, warmup=20, schedule=schedule)
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            free, bound = model.image_free, model.text_bound
            free.grad = across(free.grad, free.detach())
            bound.grad += 0.1 * bound.detach() / bound.detach().square().mean().sqrt()
            model.text_rows.grad[:3] = 0
            made.step()
    experiment = Experiment(optimizer=optimizer, schedule=schedule, lr=LR, weight_decay=DECAY)
    return SimpleNamespace(name=name, layers=monitor.frame(), experiment=experiment, status="finished", metrics={})


@pytest.fixture(scope="module")
def runs():
    return [
        trained(name="constant-seed0"),
        trained(schedule="cosine", name="cosine-seed0"),
        trained("adamc", "cosine", "adamc-seed0"),
    ]


def test_noise_across_the_weight_goes_where_the_settings_say(runs):
    for run in runs:
        table = steady_table(run).set_index("layer")
        assert list(table.index) == ["image_free", "text_bound", "text_rows"]  # what is not decayed has no balance
        assert list(table["normalised"]) == [True, False, False]
        for layer, wider in (("image_free", 0.03), ("text_rows", 0.05)):
            for way in WAYS:
                assert table.loc[layer, way] == pytest.approx(1, abs=wider), (run.name, layer, way)


def test_a_drift_is_seen_only_by_the_last_way(runs):
    for run in runs:
        row = steady_table(run).set_index("layer").loc["text_bound"]
        assert row["settings"] < 0.8 and row["sizes"] < 0.8
        assert row["sizes, drift"] == pytest.approx(1, abs=0.1)


def test_numbers_that_never_had_a_gradient_do_not_count(runs):
    rows = runs[0].layers.query("layer == 'text_rows'")
    assert rows["active"].iloc[-1] == 700
    end = predictions(rows)["settings"][-1]
    assert end == pytest.approx(np.sqrt(LR * 700 / (2 * DECAY)), rel=0.1)
    assert abs(end - np.sqrt(LR * 1000 / (2 * DECAY))) > 0.1 * end


def test_adamc_ends_higher_than_adamw(runs):
    ends = [steady_table(run).set_index("layer")["measured"]["image_free"] for run in runs]
    assert ends[1] < 0.8 * ends[0] and ends[2] == pytest.approx(ends[0], rel=0.05)


def test_curves_are_at_the_recorded_steps_and_cadence_does_not_matter(runs):
    often = trained(every=1).layers.query("layer == 'image_free'")
    seldom = runs[0].layers.query("layer == 'image_free'")
    fine, coarse = predictions(often), predictions(seldom)
    assert list(coarse["step"]) == list(range(0, STEPS, 4)) and all(len(v) == STEPS // 4 for v in coarse.values())
    assert coarse["measured"] == pytest.approx(fine["measured"][::4])
    assert coarse["settings"] == pytest.approx(fine["settings"][::4], rel=3e-3)


def test_summary_counts_layers(runs):
    table = steady_table(runs[0])
    summary = summary_table({"a-seed0": table, "a-seed1": table})
    assert list(summary["layers"]) == ["normalised"] * 3 + ["other"] * 3
    assert list(summary["known"]) == [*WAYS] * 2 and set(summary["variant"]) == {"a"}
    last = summary.iloc[-1]
    assert last["within 10 % (%)"] == 100 and last["largest"] >= last["median error"]
    assert summary.iloc[3]["within 10 % (%)"] == 50  # settings know nothing of the drift


def test_written_study(runs, tmp_path):
    import pandas

    text = write_study(runs, tmp_path)
    assert "| constant | 1 normalised | 1 | 100 |" in text
    assert "| constant | other | matrix | drift | 1 of 2 |" in text
    assert len(pandas.read_csv(tmp_path / "norms.csv")) == 9
    assert "## adamc, seed 0" in (tmp_path / "norms.md").read_text()
    for name in ("norms.png", "norms-layers.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    figure = plot_study(runs)
    lines = [line.get_label() for line in figure.axes[0].get_lines()]
    assert [label for label in lines if not label.startswith("_")] == ["constant", "cosine", "adamc"]


def test_what_cannot_be_studied(tmp_path):
    with pytest.raises(ClipeduError, match="is finished"):
        write_study([SimpleNamespace(name="a", status="failed")], tmp_path)
    rows = trained().layers.assign(contribution=np.nan)
    with pytest.raises(ClipeduError, match="only AdamW's and SGD's"):
        predictions(rows.query("layer == 'image_free'"))
