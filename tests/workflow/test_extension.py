"""More epochs for a run: from there on it has the learning rates of the longer run."""

import json

import pytest
import torch

from clipedu import ClipeduError, fit, load_run, resume
from clipedu.cli.parser import main
from clipedu.optim import learning_rate
from tests.helpers.errors import message_of
from tests.helpers.small_runs import QUIET, assert_same, stop_at


def test_a_constant_rate_continued_is_the_longer_run(small, tmp_path, monkeypatch):
    """Two epochs of four, finished, then continued: bit for bit the run of four."""
    steady = small.replace(schedule="constant", warmup=0.0)
    long = fit(steady.replace(epochs=4), tmp_path / "long", **QUIET)
    short = fit(steady, tmp_path / "short", **QUIET)
    with monkeypatch.context() as patch:
        stop_at(patch, 11)
        with pytest.raises(KeyboardInterrupt):
            resume(tmp_path / "short", epochs=4, **QUIET)
    assert load_run(tmp_path / "short").experiment.epochs == 4 and load_run(tmp_path / "short").metrics == {}
    run = resume(tmp_path / "short", **QUIET)  # the new number is kept
    assert_same(run, long)
    assert list(run.history["step"]) == list(range(16))
    (before,) = json.loads((run.folder / "earlier.json").read_text())
    assert before == {"epochs": 2, "step": 8, "metrics": short.metrics}
    assert load_run(run.folder).note == "2 epochs until step 8, then 4" and run.model() is not None


def test_a_cosine_goes_on_where_that_of_the_longer_run_is(stopped):
    assert main(["train", "--resume", str(stopped), "--epochs", "3"]) == 0
    run = load_run(stopped)
    ex = run.experiment
    for total, steps in ((8, range(6)), (12, range(6, 12))):
        expected = [learning_rate(s, peak=ex.lr, total=total, warmup=round(ex.warmup * total)) for s in steps]
        assert run.history["lr"].iloc[list(steps)].tolist() == pytest.approx(expected, rel=1e-6)
    assert run.status == "finished" and (stopped / "report.html").is_file() and len(run.history) == 12
    weights = run.weights()
    assert resume(stopped, epochs=3, **QUIET).status == "finished", "nothing is left to do"
    assert all(torch.equal(value, load_run(stopped).weights()[name]) for name, value in weights.items())


def test_fewer_epochs_than_are_done_are_refused(stopped, capsys):
    before = (stopped / "experiment.json").read_text()
    message = message_of(resume, stopped, epochs=1, **QUIET)
    assert "--epochs 1 is less than what is done" in message and "step 6, after 1.5 epochs of 4 steps" in message
    with pytest.raises(ClipeduError, match="epochs=0 must be at least 1"):
        resume(stopped, epochs=0, **QUIET)
    assert (stopped / "experiment.json").read_text() == before and not (stopped / "earlier.json").exists()
    assert main(["train", "--resume", str(stopped), "--epochs", "3", "--lr", "1"]) == 2
    assert "no other option than --epochs" in capsys.readouterr().err


def test_killed_between_its_files_it_goes_on(stopped, monkeypatch):
    """Before experiment.json is there the run is as it was; epochs that were edited by hand are refused."""
    with monkeypatch.context() as patch:
        patch.setattr("clipedu.workflow.extension.write_text", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            resume(stopped, epochs=4, **QUIET)
    run = resume(stopped, **QUIET)
    assert run.experiment.epochs == 2 and run.status == "finished" and len(run.history) == 8
    settings = json.loads((stopped / "experiment.json").read_text())
    (stopped / "experiment.json").write_text(json.dumps({**settings, "epochs": 5}))
    (stopped / "earlier.json").unlink()
    assert "epochs was 2 and is now 5" in message_of(resume, stopped, **QUIET)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('{"a": 1}', "the whole is an object, expected a list"),
        ('[{"epochs": 2, "step": 8}]', "the field '0.metrics' is missing"),
        ('[{"epochs": true, "step": 8, "metrics": {}}]', "field '0.epochs' is true, expected a whole number"),
        ('[{"epochs": 2, "step": "8", "metrics": {}}]', "field '0.step' is '8', expected a whole number"),
        ('[{"epochs": 2, "step": 8, "metrics": [1]}]', "field '0.metrics' is a list of 1, expected an object"),
        ("[", "it is not JSON"),
    ],
)
def test_a_damaged_record_of_earlier_epochs_is_named(stopped, content, fault):
    (stopped / "earlier.json").write_text(content)
    message = message_of(resume, stopped, epochs=3, **QUIET)
    assert f"earlier.json cannot be read: {fault}" in message and "Remove it" in message and "\n" not in message
    (stopped / "earlier.json").unlink()
    assert resume(stopped, epochs=3, **QUIET).experiment.epochs == 3
