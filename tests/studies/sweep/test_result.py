"""What a sweep has found, and its files."""

import pandas as pd
import pytest

from tests.helpers.errors import message_of

pytestmark = pytest.mark.xdist_group("result of a sweep")  # what is costly is made once


def test_tables_and_page_are_in_the_folder(found):
    assert pd.read_csv(found.folder / "trials.csv")["ir@5"].tolist() == pytest.approx(found.trials["ir@5"].tolist())
    assert len(pd.read_csv(found.folder / "best.csv")) == 1
    assert (found.folder / "report.html").is_file() and (found.folder / "plots/sweep.png").is_file()
    assert f"--lr {found.chosen['all']['lr']} " in (found.folder / "report.md").read_text()


def test_the_best_experiment_of_all_and_of_a_variant(found):
    (runs,) = found.runs.values()
    assert found.experiment() == runs[0].experiment and found.experiment("all", seed=1) == runs[1].experiment
    assert "no trial of none has a score" in message_of(found.experiment, "none")
