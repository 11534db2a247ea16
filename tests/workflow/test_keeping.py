"""What a run keeps beside its checkpoints is written once, and again where it is missing."""

from clipedu.runs.folders import new_run
from clipedu.training.datasets import load_data
from clipedu.training.setup import prepare
from clipedu.workflow.keeping import keep_beside_checkpoints


def test_files_are_written_and_made_again(small, tmp_path):
    data = load_data(small)
    run, trainer = new_run(small, tmp_path / "run"), prepare(small, data, progress=False)
    keep_beside_checkpoints(run, trainer, data)
    names = {"tokenizer", "text_encoder", "data.json", "train-rows.npy", "environment.json"}
    assert names <= {path.name for path in run.folder.iterdir()}
    (run.folder / "data.json").unlink()
    (run.folder / "train-rows.npy").unlink()
    run.environment = {}
    keep_beside_checkpoints(run, trainer, data)
    assert names <= {path.name for path in run.folder.iterdir()} and run.environment["python"]


def test_rows_that_are_trained_on_are_told(small, tmp_path, caplog):
    data = load_data(small)
    same = type(data)(train=data.train, tokenizer=data.tokenizer, scored=[data.train])
    run = new_run(small, tmp_path / "run")
    keep_beside_checkpoints(run, prepare(small, data, progress=False), same)
    assert "trained" in caplog.text
