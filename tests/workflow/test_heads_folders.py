"""A run's folder that is written after the training."""

import pytest

from clipedu import load_run
from clipedu.training.datasets import load_data
from clipedu.training.setup import prepare
from clipedu.utils.finite import NotFinite
from clipedu.workflow import heads_folders
from clipedu.workflow.heads_folders import Member, Tables, write_failed, write_finished, write_stopped


@pytest.fixture
def trained(small):
    """A run by itself, in the parts that a stack would have."""
    import pandas as pd

    ex = small.replace(image_frozen=True, text_frozen=True, epochs=1)
    data = load_data(ex)
    trainer = prepare(ex, data, progress=False)
    rows = [{"step": r.step, "epoch": r.epoch, "lr": r.lr, "loss": r.loss, "seconds": r.seconds} for r in trainer.run()]
    tables = Tables(pd.DataFrame(rows), trainer.monitor.totals(), trainer.monitor.frame())
    return Member("one", ex, data, None, {"data": "given"}), trainer, tables


def test_a_finished_run(trained, tmp_path):
    one, trainer, tables = trained
    metrics = write_finished(one, tmp_path / "run", trainer, tables)
    run = load_run(tmp_path / "run")
    assert run.status == "finished" and run.metrics == metrics and run.scored == 4
    assert len(run.history) == 4 and run.checkpoint().name == "step-00000004"
    assert "--data given" in run.command or "given" in (tmp_path / "run" / "paths.json").read_text()


def test_a_failed_and_a_stopped_run(trained, tmp_path):
    one, trainer, tables = trained
    write_failed(one, tmp_path / "failed", trainer, tables, "the loss is not finite")
    failed = load_run(tmp_path / "failed")
    assert failed.status == "failed" and failed.note.startswith("the loss is not finite. Last good checkpoint: none")
    write_stopped(one, tmp_path / "stopped", trainer, tables, "by the user")
    assert load_run(tmp_path / "stopped").note == "by the user after step 4 of 4"


@pytest.mark.parametrize(("error", "status"), [(NotFinite("an embedding"), "failed"), (KeyboardInterrupt(), "stopped")])
def test_scores_that_cannot_be_had(trained, tmp_path, monkeypatch, error, status):
    def score(*_, **__):
        raise error

    monkeypatch.setattr(heads_folders, "score", score)
    with pytest.raises(type(error)):
        write_finished(*trained[:1], tmp_path / "run", *trained[1:])
    run = load_run(tmp_path / "run")
    assert run.status == status and run.has_checkpoint
