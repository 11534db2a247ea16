"""The course's table explained: pressure, what is left, on frames made by hand and on runs of the real comparison."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from clipedu.config.experiment import Experiment
from clipedu.studies.decay import coincide, decay_table, plot_decay, pressure, what_is_left, write_study
from clipedu.studies.runner import comparison_cells, run_comparison
from clipedu.utils.errors import ClipeduError

STEPS = range(0, 100, 5)


def made_up(name: str, optimizer: str = "adam", loss: str = "sogclr", shrinks: float = 1.0, gradient: float = 1.0):
    rows = []
    for step in STEPS:
        for layer, part, kind in (
            ("image.a", "image", "matrix"),
            ("text.a", "text", "head"),
            ("text.b", "text", "1-D"),
        ):
            size = {"image.a": 3.0 * shrinks**step, "text.a": 4.0, "text.b": 100.0}[layer]
            rows.append(
                {"step": step, "layer": layer, "part": part, "kind": kind, "weight": size, "gradient": gradient}
            )
    history = pd.DataFrame({"step": list(STEPS), "loss": np.linspace(2, 1, len(STEPS)) + 1e-3 * shrinks})
    return SimpleNamespace(
        name=name,
        experiment=Experiment(optimizer=optimizer, loss=loss, weight_decay=0.5),
        layers=pd.DataFrame(rows),
        history=history,
        metrics={"tr@1": 10.0, "ir@1": 20.0, "average": 15.0},
        status="finished",
    )


def test_pressure_is_decay_over_gradient_layer_by_layer():
    values = pressure(made_up("sogclr+adam-seed0", gradient=0.1))
    assert list(values.columns) == ["image.a", "text.a"] and list(values.index) == list(STEPS)
    assert values["image.a"].tolist() == pytest.approx([15.0] * 20) and values["text.a"].iloc[0] == pytest.approx(20.0)
    assert np.isinf(pressure(made_up("a", gradient=0.0)).to_numpy()).all()


def test_what_is_left_is_layer_by_layer():
    left = what_is_left(made_up("a", shrinks=0.99))
    assert list(left.columns) == ["image.a", "text.a"] and left.index[-1] == 95
    assert left["image.a"].tolist() == pytest.approx([0.99**step for step in STEPS]) and set(left["text.a"]) == {1.0}


def test_table():
    table = decay_table(
        [made_up("sogclr+adam-seed0", shrinks=0.99, gradient=1.0), SimpleNamespace(name="b-seed0", layers=())]
    )
    row = table.iloc[0]
    assert row["variant"] == "sogclr+adam" and row["TR@1"] == 10 and row["left, text"] == 1
    assert row["left, image"] == pytest.approx(0.99**95)
    assert row["left of ||W||"] == pytest.approx(np.hypot(3 * 0.99**95, 4) / 5)
    assert row["pressure early"] == pytest.approx(np.mean([np.mean([1.5, 1.5 * 0.99**5]), 2.0]))
    assert row["layers above 1"] == 0.5  # text.a at 2; image.a has come down to 0.58
    assert table.iloc[1]["variant"] == "b" and np.isnan(table.iloc[1]["average"])


def test_figure_has_a_column_an_optimizer_and_a_line_a_variant():
    runs = [
        made_up("sogclr+adam-seed0"),
        made_up("sogclr-scaled+adam-seed0"),
        made_up("sogclr+adam-no-decay-seed0"),
        made_up("clip+adamw-seed0", "adamw", "clip"),
    ]
    figure = plot_decay(runs)
    assert len(figure.axes) == 4
    styles = [line.get_linestyle() for line in figure.axes[0].get_lines()]
    assert styles[:3] == ["-", "--", ":"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "sogclr",
        "sogclr-scaled",
        "sogclr-no-decay",
        "clip",
    ]
    assert len(figure.axes[2].get_lines()) == 2 + 1  # without decay nothing pulls; and the line at 1
    with pytest.raises(ClipeduError, match="nothing to draw"):
        plot_decay([SimpleNamespace(layers=())])


def test_adam_and_adamw_are_told_to_coincide_only_from_runs_that_show_it():
    adam, adamw = made_up("sogclr+adam-no-decay-seed0"), made_up("sogclr+adamw-no-decay-seed0", "adamw")
    assert coincide([adam, adamw]).endswith("differ by at most 0 in any step.")
    assert "0.001" in coincide([adam, made_up("sogclr+adamw-no-decay-seed0", "adamw", shrinks=2.0)])
    assert coincide([adam]) == "" and coincide([]) == ""


def test_the_comparison_itself(tmp_path):
    """Five of its runs, very small: the real way from the command to the files."""
    base = Experiment.preset("tiny", train_size=96, batch_size=32, epochs=1)
    only = ["sogclr+sgd", "sogclr+adam", "sogclr-scaled+adam", "sogclr+adam-no-decay", "sogclr+adamw-no-decay"]
    cells = comparison_cells("decay", base, [0], only=only, per_optimizer={"sgd": {"lr": 0.03, "weight_decay": 9.0}})
    assert list(cells[0]) == [f"{name}-seed0" for name in only]
    assert cells[0]["sogclr+sgd-seed0"].lr == 0.03 and cells[0]["sogclr+adam-seed0"].lr == base.lr
    runs = list(run_comparison(cells, tmp_path, progress=False))
    text = write_study(runs, tmp_path)
    assert "| sogclr-scaled+adam |" in text and "differ by at most 0 in any step" in text
    assert len(pd.read_csv(tmp_path / "decay.csv")) == 5
    assert (tmp_path / "decay.png").read_bytes().startswith(b"\x89PNG")
    assert "decay.png" in (tmp_path / "decay.md").read_text()
    pressures = {run.name: pressure(run).iloc[0].median() for run in runs}
    assert pressures["sogclr-scaled+adam-seed0"] < 0.3 * pressures["sogclr+adam-seed0"]
