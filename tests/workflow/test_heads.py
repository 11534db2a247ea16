"""`fit_heads`: every run is what `fit` would have made of it."""

import logging

import pytest
import torch

import clipedu
from clipedu import ClipeduError, fit, fit_heads, load_run, resume
from clipedu.evaluation.scoring import evaluate
from clipedu.report.writer import write_report
from clipedu.training.datasets import load_data
from clipedu.workflow import heads as heads_module
from tests.helpers.errors import message_of
from tests.helpers.stacks import distance, variants


@pytest.fixture(scope="module")
def frozen(small):
    return small.replace(image_frozen=True, text_frozen=True)


@pytest.fixture(scope="module")
def data(frozen):
    return load_data(frozen)


def check_same(run, single) -> None:
    """A run of a stack is a single run, up to rounding; scores are counts of ranks, and thus equal."""
    assert run.metrics.keys() == single.metrics.keys()
    for key, value in single.metrics.items():
        assert run.metrics[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
    for name in ("history", "norms", "layers"):
        ours, theirs = getattr(single, name), getattr(run, name)
        assert list(ours.columns) == list(theirs.columns) and len(ours) == len(theirs)
    assert (run.history["loss"] - single.history["loss"]).abs().max() <= 1e-5 * single.history["loss"].abs().max()


def test_heads_of_a_model_that_is_trained_already(frozen, tmp_path):
    """As after `clipedu train --from`: equal to single runs, also in what their folders keep."""
    fit(frozen.replace(epochs=1), tmp_path / "before", progress=False, report=False)
    changes = {"image_frozen": True, "text_frozen": True, "batch_size": frozen.batch_size, "epochs": 1}
    many = [clipedu.start_from(tmp_path / "before", lr=lr, **changes) for lr in (1e-3, 3e-3)]
    many = [
        one.replace(train_size=frozen.train_size, eval_data=frozen.eval_data, holdout=frozen.holdout) for one in many
    ]
    runs = fit_heads(many, tmp_path / "stack", progress=False)
    single = fit(many[1], tmp_path / "one", progress=False, report=False)
    check_same(runs[1], single)
    kept = load_run(runs[1].folder).weights()
    assert all(
        distance(value, kept[name]) < 1e-5 for name, value in single.weights().items() if value.is_floating_point()
    )


@pytest.mark.parametrize(("loss", "optimizer"), [("clip", "adamw"), ("sogclr", "adamc"), ("vicreg", "sgd")])
def test_a_folder_of_each_is_a_run(frozen, data, tmp_path, loss, optimizer):
    many = dict(zip("abc", variants(frozen, loss, optimizer), strict=True))
    runs = fit_heads(many, tmp_path / "stack", data=data, progress=False)
    assert [run.name for run in runs] == ["a", "b", "c"] and all(run.status == "finished" for run in runs)
    for run in runs:
        kept = load_run(tmp_path / "stack" / run.name)
        single = fit(many[run.name], tmp_path / run.name, data=data, progress=False, report=False)
        assert kept.status == "finished" and kept.experiment == many[run.name] and kept.metrics == run.metrics
        check_same(run, single)
        check_same(kept, single)
        assert sorted(p.name for p in kept.folder.iterdir()) == sorted(p.name for p in single.folder.iterdir())
        for name, value in single.weights().items():
            if value.is_floating_point():
                assert distance(value, kept.weights()[name]) < 1e-5, name
        scores = evaluate(kept.model(), data.scored[0])
        assert all(kept.metrics[key] == pytest.approx(scores[key], rel=1e-6) for key in ("tr@1", "ir@10"))
    if loss == "clip":
        write_report([load_run(runs[0].folder)], tmp_path / "report")
        assert (tmp_path / "report" / "report.html").is_file()
    longer = resume(runs[1].folder, epochs=3, data=data, progress=False, report=False)
    assert longer.status == "finished" and len(longer.history) == 12


def test_scenes_get_all_their_scores(quick, tmp_path):
    """Those of foils and chains too, whose texts are embedded once for all runs."""
    many = [quick.replace(image_frozen=True, text_frozen=True, lr=lr) for lr in (3e-3, 1e-3)]
    data = load_data(many[0])
    runs = fit_heads(many, data=data, progress=False)
    single = fit(many[1], tmp_path / "single", data=data, progress=False, report=False)
    check_same(runs[1], single)
    assert {"foil_colour", "top1", "generality_within"} <= runs[1].metrics.keys()


def test_without_a_folder_nothing_is_written(frozen, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = fit_heads([frozen, frozen.replace(lr=1e-4)], data=data, progress=False)
    assert [run.name for run in runs] == ["0", "1"] and runs[0].folder is None and not any(tmp_path.iterdir())
    single = fit(frozen, tmp_path / "single", data=data, progress=False, report=False)
    check_same(runs[0], single)
    scores = evaluate(runs[0].model, data.scored[0])
    assert runs[0].metrics["tr@5"] == scores["tr@5"] and not runs[0].model.training
    assert runs[0].model.image_encoder is runs[1].model.image_encoder
    assert runs[0].model.remembered is None


def test_stacks_of_several_kinds_and_seeds_load_their_own_data(frozen, tmp_path):
    many = [frozen.replace(loss=loss, seed=seed) for loss in ("clip", "dcl") for seed in (0, 1)]
    runs = fit_heads(many, progress=False)
    for number in (1, 2):
        check_same(runs[number], fit(many[number], tmp_path / str(number), progress=False, report=False))


def test_a_large_stack_is_trained_in_parts(frozen, data, monkeypatch):
    whole = fit_heads([frozen.replace(lr=lr) for lr in (1e-3, 2e-3, 3e-3)], data=data, progress=False)
    sizes, original = [], heads_module.fit_stack
    monkeypatch.setattr(heads_module, "runs_at_once", lambda batch_size: 2)
    monkeypatch.setattr(heads_module, "fit_stack", lambda m, *a, **k: sizes.append(len(m)) or original(m, *a, **k))
    parts = fit_heads([run.experiment for run in whole], data=data, progress=False)
    assert sizes == [2, 1] and [run.name for run in parts] == ["0", "1", "2"]
    for one, other in zip(whole, parts, strict=True):
        assert distance(one.model.text_projection.weight, other.model.text_projection.weight) < 1e-5


def test_what_cannot_be_stacked_is_refused_or_run_alone(frozen, data, tmp_path):
    many = {"stacked": frozen, "trained": frozen.replace(text_frozen=False), "muon": frozen.replace(optimizer="muon")}
    message = message_of(lambda: fit_heads(many, tmp_path / "none", data=data))
    assert "'trained'" in message and "its text encoder is trained" in message and "alone=True" in message
    assert "(1 more cannot either)" in message and not (tmp_path / "none").exists()
    runs = fit_heads(many, tmp_path / "some", data=data, alone=True, progress=False)
    assert [bool(run.why_alone) for run in runs] == [False, True, True]
    assert load_run(tmp_path / "some" / "muon").status == "finished"
    assert not torch.equal(
        runs[1].model.text_encoder.state_dict()["embeddings.word_embeddings.weight"],
        runs[0].model.text_encoder.state_dict()["embeddings.word_embeddings.weight"],
    )


def test_nothing_is_trained_where_something_is_wrong(frozen, data, tmp_path):
    assert "at least one" in message_of(lambda: fit_heads([]))
    assert "gamma" in message_of(lambda: fit_heads([frozen, frozen.replace(loss_options={"gamma": 2})], data=data))
    assert "is that of a folder" in message_of(lambda: fit_heads({"a/b": frozen}, tmp_path, data=data))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file").write_text("")
    assert "not empty" in message_of(lambda: fit_heads({"a": frozen, "b": frozen}, tmp_path, data=data))
    assert not (tmp_path / "a").exists()


def test_a_run_that_diverges_is_kept_as_failed(frozen, data, tmp_path):
    good = frozen.replace(loss="vicreg", optimizer="sgd", lr=0.001, warmup=0.0)
    runs = fit_heads({"good": good, "bad": good.replace(lr=100.0)}, tmp_path, data=data, progress=False)
    assert [run.status for run in runs] == ["finished", "failed"]
    kept = load_run(tmp_path / "bad")
    assert kept.status == "failed" and "is not finite at step" in kept.note and not kept.has_checkpoint
    assert runs[1].note in kept.note and runs[1].metrics == {} and len(kept.history) == len(runs[1].history) < 8
    assert load_run(tmp_path / "good").metrics == runs[0].metrics


def test_names_are_public():
    assert clipedu.fit_heads is fit_heads and "fit_heads" in dir(clipedu)


def test_warnings_of_torch_are_hidden(frozen, data, recwarn, caplog):
    with caplog.at_level(logging.WARNING):
        fit_heads([frozen.replace(learn_temperature=True, lr=lr) for lr in (1e-3, 2e-3)], data=data, progress=False)
    assert not [w for w in recwarn if "performance drop" in str(w.message)]


def test_errors_are_of_one_line(frozen):
    with pytest.raises(ClipeduError) as error:
        fit_heads([frozen.replace(optimizer="lamb")])
    assert len(str(error.value).splitlines()) == 1


def test_each_experiment_has_its_own_data(frozen, data):
    whole, held_out = fit_heads([frozen, frozen.replace(holdout=0.5)], progress=False)
    assert whole.metrics["retrieval_images"] == len(data.scored[0])
    assert held_out.metrics["retrieval_images"] == len(data.train) // 2 != len(data.scored[0])
