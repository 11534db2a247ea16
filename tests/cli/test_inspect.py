"""`clipedu inspect`: a page and a table from the command line."""

import shutil

import pytest

from clipedu.cli.parser import build_parser, main
from clipedu.norms import spectra
from tests.helpers.blends import small_runs

pytestmark = pytest.mark.xdist_group("blends")


def test_a_run_is_inspected(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(spectra, "find_spec", lambda name: None)
    written = []
    monkeypatch.setattr(
        "clipedu.report.inspection_page.write_inspection",
        lambda *given: written.append(given) or given[1] / "inspect.html",
    )
    folder = shutil.copytree(small_runs(2)[0].folder, tmp_path / "run")
    assert main(["inspect", str(folder), "--pairs", "4"]) == 0
    shown = capsys.readouterr().out
    assert (
        "| image_encoder.conv1.0.weight | 16x3x3x3 | " in shown
        and "What stands out:" in shown
        and "What is not known:" in shown
    )
    assert "On 4 pairs of own/val" in shown and f"Page: {folder}/inspect/inspect.html" in shown
    ((found, where),) = written
    assert found.name == str(folder) and where == folder / "inspect"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lr", "1e-3"], "--lr alone is no recipe: give --weight-decay too"),
        (["--steps", "9"], "--steps alone is no recipe: give --lr and --weight-decay too"),
        (["--lr", "1e-3", "--weight-decay", "0.1", "--warmup", "0.1"], "--warmup has no effect without --steps"),
        (["--lr", "1e-3", "--weight-decay", "0.1"], "--lr has no effect: {run} is a run, which has its own recipe"),
        (["--eval-data", "nowhere"], "nowhere"),
        (["--lr=-1", "--weight-decay", "0.1"], "lr=-1"),
        (["--lr", "1", "--weight-decay", "0.1", "--optimizer", "adamv"], "unknown optimizer 'adamv'"),
    ],
)
def test_what_cannot_be_inspected(words, said, capsys):
    run = str(small_runs(2)[0].folder)
    assert main(["inspect", run, *words]) == 2
    assert said.format(run=run) in (shown := capsys.readouterr().err) and len(shown.splitlines()) <= 3


def test_no_such_model(capsys):
    assert main(["inspect", "nowhere"]) == 2
    assert "'nowhere' does not exist" in capsys.readouterr().err


def test_the_recipe_is_read_like_that_of_an_experiment(capsys):
    from clipedu.cli.inspect import _recipe

    words = (
        "--optimizer adamc --lr 5e-4 --weight-decay 0.2 --optimizer-options betas=[0.9,0.98] --steps 100 --warmup 0.1"
    )
    recipe = _recipe(build_parser().parse_args(["inspect", "x", *words.split()]))
    assert (recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.options) == (
        "adamc",
        5e-4,
        0.2,
        {"betas": [0.9, 0.98]},
    )
    assert len(recipe.rates) == 100 and recipe.rates.max() == 5e-4 and recipe.rates[0] == pytest.approx(5e-5)
    assert _recipe(build_parser().parse_args(["inspect", "x"])) is None
