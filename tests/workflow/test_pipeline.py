"""A run's folder from start to finish: kept, resumed, scored again; and what an interruption leaves."""

import json
import os
import signal
from dataclasses import replace

import pandas as pd
import pytest
import torch

import clipedu
from clipedu import ClipeduError, fit, load_run, resume, workflow
from clipedu.runs.folders import new_run
from clipedu.training.datasets import evaluation_sets
from clipedu.training.trainer import Trainer
from clipedu.utils.finite import NotFinite
from tests.helpers.small_runs import assert_same_tables


def test_three_lines_of_python(finished):
    assert finished.status == "finished"
    assert {"tr@1", "ir@1", "top1", "average", "tr@10", "ir@10", "top5", "modality_gap"} <= set(finished.metrics)
    assert finished.metrics["average"] == pytest.approx(
        (finished.metrics["tr@1"] + finished.metrics["ir@1"] + finished.metrics["top1"]) / 3
    )
    assert len(finished.history) == 8 and len(finished.norms) == 8 * 3
    tensors = sum(p.requires_grad and p.ndim > 0 for p in finished.model().parameters())
    assert finished.layers["step"].tolist() == [0] * tensors  # norms_every is 10


def test_the_folder_holds_all_that_is_promised(finished):
    for name in (
        "experiment.json",
        "environment.json",
        "status.json",
        "metrics.json",
        "history.csv",
        "norms.csv",
        "layers.csv",
        "embeddings.safetensors",
        "captions.json",
        "report.html",
        "report.md",
        "tokenizer",
    ):
        assert (finished.folder / name).exists(), name
    assert len(list((finished.folder / "plots").glob("*.png"))) >= 4
    assert not list(finished.folder.rglob("*partial*"))


def test_a_loaded_run_is_the_run(finished):
    again = load_run(finished.folder)
    assert again.experiment == finished.experiment and again.metrics == finished.metrics
    assert again.status == "finished" and again.seconds == pytest.approx(finished.seconds, abs=0.01)
    pd.testing.assert_frame_equal(again.history, finished.history.reset_index(drop=True), rtol=1e-5, check_dtype=False)


def test_the_saved_model_scores_as_the_trained_one(finished):
    model = load_run(finished.folder).model()
    pairs = clipedu.load_pairs("scenes", "val", image_size=32)
    scores = clipedu.evaluate(model, pairs)
    assert scores["tr@1"] == pytest.approx(finished.metrics["tr@1"], abs=2.51)  # at most one image of 40 changes sides
    kept = finished.embeddings()
    assert kept["image"].shape == (40, 16) and len(kept["captions"]) == 40
    torch.testing.assert_close(model.embed_texts(kept["captions"][:3]), kept["text"][:3], rtol=1e-3, atol=1e-4)


def test_stopped_and_resumed_equals_never_stopped(quick, tmp_path, monkeypatch):
    """Ctrl-C in the middle of an epoch, for a loss with memory and an optimizer with momentum: the numbers go on exactly."""
    experiment = quick.replace(loss="sogclr", norms_every=3)
    whole = fit(experiment, tmp_path / "whole", progress=False, report=False)
    run_until(monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        fit(experiment, tmp_path / "stopped", progress=False, report=False)
    monkeypatch.undo()
    stopped = load_run(tmp_path / "stopped")
    assert stopped.status == "stopped" and "after step 6 of 8" in stopped.note and len(stopped.history) == 6
    assert stopped.layers["step"].unique().tolist() == [0, 3]
    resumed = resume(tmp_path / "stopped", progress=False, report=False)
    assert resumed.status == "finished"
    assert list(resumed.history["step"]) == list(range(8)) and list(resumed.norms["step"].unique()) == list(range(8))
    assert_same_tables(resumed.folder, whole.folder)
    assert resumed.layers["step"].unique().tolist() == [0, 3, 6]
    assert resumed.layers["layer"].tolist() == whole.layers["layer"].tolist()
    last = [run.layers[run.layers["step"] == 6].reset_index(drop=True) for run in (resumed, whole)]
    pd.testing.assert_frame_equal(*last, check_exact=True)
    decayed = last[0].query("layer == 'image_projection.weight'")
    shrinks = whole.history["lr"][:7] * experiment.weight_decay
    assert decayed["Lambda"].item() == pytest.approx(2 * shrinks.sum(), rel=1e-6)
    assert resumed.metrics == whole.metrics
    assert resume(tmp_path / "stopped").metrics == resumed.metrics  # a finished run is not run again


def test_what_a_geometry_and_a_loss_learn_is_kept_and_goes_on(quick, tmp_path, monkeypatch):
    """Curvature, alpha, temperature and the schedule of the cones' radius: stopped and resumed equals never stopped."""
    options = {"min_radius": 0.3, "final_min_radius": 0.1}
    experiment = quick.replace(geometry="lorentz", learn_temperature=True, entailment=0.2, entailment_options=options)
    whole = fit(experiment, tmp_path / "whole", progress=False, report=False)
    run_until(monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        fit(experiment, tmp_path / "stopped", progress=False, report=False)
    monkeypatch.undo()
    resumed = resume(tmp_path / "stopped", progress=False, report=False)
    for column in ("loss", "temperature", "curvature", "alpha_text", "entailment_angle", "saturated"):
        assert list(resumed.history[column][6:]) == list(whole.history[column][6:]), column
    assert resumed.metrics == whole.metrics
    learned = whole.model().geometry
    assert learned.curvature.item() == whole.geometry().curvature.item() != 1.0
    assert abs(learned.curvature.item() - whole.history["curvature"].iloc[-1]) < 1e-2
    repeated = load_run(tmp_path / "whole").model()
    kept = whole.embeddings()
    torch.testing.assert_close(repeated.embed_texts(kept["captions"][:3]), kept["text"][:3], rtol=1e-3, atol=1e-4)


def test_a_run_killed_before_its_tokenizer_was_written_can_be_resumed(quick, tmp_path):
    new_run(quick, tmp_path / "run")
    leftover = tmp_path / "run" / ".history.csv.1a2b3c4d.partial"  # of the write during which it was killed
    leftover.write_text("step,")
    run = resume(tmp_path / "run", progress=False, report=False)
    assert not leftover.exists()
    assert run.status == "finished" and run.model().tokenizer.vocab_size > 5
    assert (run.folder / "data.json").is_file() and (run.folder / "text_encoder").is_dir()


def test_a_second_ctrl_c_keeps_no_half_step(quick, tmp_path, monkeypatch):
    """It stops at once, and what is kept is the checkpoint of the last whole epoch."""
    original = Trainer._train_on

    def impatient(self, *arguments):
        values = original(self, *arguments)  # the weights have moved, but the step is not counted yet
        if self.step == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return values

    monkeypatch.setattr(Trainer, "_train_on", impatient)
    with pytest.raises(KeyboardInterrupt):
        fit(quick, tmp_path / "run", progress=False)
    monkeypatch.undo()
    run = load_run(tmp_path / "run")
    assert run.status == "stopped" and run.checkpoint().name == "step-00000004" and len(run.history) == 4
    assert (
        resume(tmp_path / "run", progress=False, report=False).metrics
        == fit(quick, tmp_path / "whole", progress=False, report=False).metrics
    )


def test_nan_keeps_the_run_and_names_the_last_good_checkpoint(quick, tmp_path, monkeypatch):
    original = Trainer._train_on

    def poison(self, batch, lr):
        output = original(self, batch, lr)
        return replace(output, total=output.total * float("nan")) if self.step == 5 else output

    monkeypatch.setattr(Trainer, "_train_on", poison)
    with pytest.raises(NotFinite, match=r"step 5 .*Last good checkpoint: .*step-00000004"):
        fit(quick.replace(norms_every=1), tmp_path / "nan", progress=False)
    run = load_run(tmp_path / "nan")
    assert run.status == "failed" and "step 5" in run.note and len(run.history) == 5
    assert run.layers["step"].unique().tolist() == list(range(5)), "rows of the step that failed are left out"
    assert run.checkpoint().name == "step-00000004"


def spoil(monkeypatch, step, poison):
    """Change a trainer right after the update of a step."""
    original = Trainer._train_on

    def train_on(self, batch, lr):
        output = original(self, batch, lr)
        if self.step == step:
            with torch.no_grad():
                poison(self)
        return output

    monkeypatch.setattr(Trainer, "_train_on", train_on)


def spoil_buffer(trainer):
    next(t for name, t in trainer.model.named_buffers() if name.endswith("running_var"))[0] = float("nan")


@pytest.mark.parametrize("step, kept", [(2, []), (5, ["step-00000004"]), (7, ["step-00000004"])])
def test_a_model_that_is_not_finite_is_neither_kept_nor_scored(quick, tmp_path, monkeypatch, step, kept):
    spoil(monkeypatch, step, spoil_buffer)
    with pytest.raises(NotFinite, match=r"^the buffer 'image_encoder.*running_var' \(NaN\) is not finite after step"):
        fit(quick, tmp_path / "run", progress=False)
    run = load_run(tmp_path / "run")
    assert run.status == "failed" and "running_var" in run.note and run.metrics == {}
    assert sorted(path.name for path in (run.folder / "checkpoint").glob("step-*")) == kept
    assert ("Last good checkpoint: " + (str(run.checkpoint()) if kept else "none")) in run.note
    if kept:
        assert all(tensor.isfinite().all() for tensor in run.weights().values())
        assert len(run.history) == 7  # the last step has no record: after it the end of the run is checked


def test_ctrl_c_keeps_no_model_that_is_not_finite(quick, tmp_path, monkeypatch):
    run_until(monkeypatch, 6)
    spoil(monkeypatch, 5, spoil_buffer)
    with pytest.raises(NotFinite, match="Last good checkpoint: .*step-00000004"):
        fit(quick, tmp_path / "run", progress=False)
    assert load_run(tmp_path / "run").status == "failed"


def test_a_checkpoint_that_is_not_finite_is_not_gone_on_from(quick, tmp_path, monkeypatch):
    """As runs of older versions could leave one behind."""
    run_until(monkeypatch, 5)
    spoil(monkeypatch, 4, spoil_buffer)
    monkeypatch.setattr(Trainer, "check_finite", lambda self: None)
    with pytest.raises(KeyboardInterrupt):
        fit(quick, tmp_path / "run", progress=False)
    monkeypatch.undo()
    with pytest.raises(NotFinite, match=r"step-00000005 cannot be used: the buffer .*running_var' \(NaN\)"):
        resume(tmp_path / "run", progress=False)
    run = load_run(tmp_path / "run")
    assert run.status == "failed"
    with pytest.raises(NotFinite, match="running_var"):
        workflow.score(run, evaluation_sets(run.experiment), progress=False)


def test_embeddings_that_are_not_finite_are_not_scored(quick, tmp_path, monkeypatch):
    """All weights are finite; the lengths of the embeddings are not, and their cosines would be 0."""
    spoil(monkeypatch, 7, lambda trainer: trainer.model.image_projection.weight.fill_(5e17))
    with pytest.raises(NotFinite, match="40 of 40 embeddings of the images of scenes/val are not finite"):
        fit(quick, tmp_path / "run", progress=False)
    run = load_run(tmp_path / "run")
    assert run.status == "failed" and run.metrics == {} and "weights are finite, but too large" in run.note


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_all_files_of_a_run_have_the_mode_that_the_umask_says(quick, tmp_path, umask):
    before = os.umask(umask)
    try:
        fit(quick.replace(train_size=16, epochs=1), tmp_path / "run", progress=False, report=umask == 0o002)
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in (tmp_path / "run").rglob("*")}
    wrong = {str(p): oct(mode) for p, mode in modes.items() if mode != (0o777 if p.is_dir() else 0o666) & ~umask}
    assert not wrong and len(modes) > 15


def test_a_crash_says_so_and_can_be_resumed(quick, tmp_path, monkeypatch):
    original = Trainer._train_on

    def break_down(self, batch, lr):
        if self.step == 6:
            raise RuntimeError("a cable is loose\nand more")
        return original(self, batch, lr)

    monkeypatch.setattr(Trainer, "_train_on", break_down)
    with pytest.raises(RuntimeError):
        fit(quick, tmp_path / "run", progress=False)
    monkeypatch.undo()
    run = load_run(tmp_path / "run")
    assert (run.status, run.note) == ("stopped", "by RuntimeError: a cable is loose")
    assert resume(tmp_path / "run", progress=False, report=False).status == "finished"


def test_nothing_is_written_for_what_can_not_work(quick, tmp_path):
    for changes in (
        {"loss": "no-such"},
        {"data": str(tmp_path / "missing")},
        {"zeroshot_data": "missing"},
        {"train_size": 16, "batch_size": 16, "eval_data": "missing"},
        {"text_length": 500},
    ):
        with pytest.raises(ClipeduError):
            fit(quick.replace(**changes), tmp_path / "run", progress=False)
        assert not (tmp_path / "run").exists(), changes


def test_a_run_whose_every_checkpoint_is_damaged_is_one_line(quick, tmp_path, monkeypatch):
    run_until(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        fit(quick, tmp_path / "run", progress=False)
    monkeypatch.undo()
    for name in ("state.pt", "model.safetensors"):
        path = load_run(tmp_path / "run").checkpoint() / name
        whole = path.read_bytes()
        for damaged in (b"", b"nonsense", whole[: len(whole) // 2]):
            path.write_bytes(damaged)
            with pytest.raises(ClipeduError, match=f"{name} cannot be read"):
                resume(tmp_path / "run", progress=False)
        path.write_bytes(whole)


def test_a_checkpoint_of_an_older_version_goes_on(quick, tmp_path, monkeypatch):
    """It kept no layers, and nothing of the monitor: both begin where the run goes on."""
    run_until(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        fit(quick.replace(norms_every=2), tmp_path / "run", progress=False)
    monkeypatch.undo()
    run = load_run(tmp_path / "run")
    (run.folder / "layers.csv").unlink()
    state = run.training_state("cpu")
    del state["monitor"]
    torch.save(state, run.checkpoint() / "state.pt")
    (run.checkpoint() / "checkpoint.json").unlink()
    resumed = resume(tmp_path / "run", progress=False, report=False)
    assert resumed.layers["step"].unique().tolist() == [6] and len(resumed.norms) == 8 * 3


def test_resume_refuses_other_data(quick, tmp_path, monkeypatch):
    run_until(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        fit(quick, tmp_path / "run", progress=False)
    monkeypatch.undo()
    path = tmp_path / "run" / "experiment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"train_size": 48}))
    for facts in (tmp_path / "run").rglob("checkpoint.json"):  # as a run of an older version, which knows no experiment
        facts.unlink()
    with pytest.raises(ClipeduError, match="has changed since the run was stopped"):
        resume(tmp_path / "run", progress=False)


def test_score_again_gives_the_same(finished, tmp_path):
    import shutil

    shutil.copytree(finished.folder, tmp_path / "copy")
    run = load_run(tmp_path / "copy")
    scores = workflow.score(run, evaluation_sets(run.experiment), progress=False)
    assert scores == pytest.approx(finished.metrics, abs=0.11)


def run_until(monkeypatch, step: int) -> None:
    """Press Ctrl-C (a real SIGINT) while step number `step`, counted from 1, is under way."""
    original = Trainer._train_on

    def interrupt(self, *arguments):
        if self.step == step - 1:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    monkeypatch.setattr(Trainer, "_train_on", interrupt)


def test_data_without_a_val_split_says_what_to_score_on_instead(tmp_path):
    from tests.helpers.shard_maker import encode, photo, sample, write_tar

    files = [part for n in range(4) for part in sample(f"k{n}", encode(photo(n, 20, 20)), [f"bird {n}"])]
    write_tar(tmp_path / "birds-train-00.tar", files)
    experiment = clipedu.Experiment.preset("tiny", data=str(tmp_path), train_size=None, batch_size=2)
    with pytest.raises(ClipeduError, match="no shards of split 'val'.* Give pairs to score on: --eval-data"):
        fit(experiment, tmp_path / "run", progress=False)
