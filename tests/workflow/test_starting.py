"""`start_from`, and runs that fine-tune: they hold all that they need, and go on as if they had never stopped."""

import json
import logging
import shutil

import pytest
import torch

import clipedu
from clipedu import ClipeduError, Experiment, adopt, fit, load_run, resume, start_from
from clipedu.workflow import starting
from clipedu.workflow.starting import LORA_LR, LR, experiment_of, of_optimizers, with_loss
from tests.helpers.errors import message_of
from tests.helpers.released import save_open_clip, save_transformers

pytestmark = pytest.mark.xdist_group("interop")
QUICK = {
    "train_size": 40,
    "holdout": 0.25,
    "batch_size": 10,
    "epochs": 2,
    "lr": 1e-3,
    "checkpoint_every": 1,
    "warmup": 0.0,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    for kind, save in (("vit", save_open_clip), ("clip", save_transformers), ("siglip", save_transformers)):
        save(root / kind, kind)
    return root


@pytest.fixture(scope="module")
def tuned(models, tmp_path_factory):
    """A released model, fine-tuned with adapters; its folder is gone by now."""
    root = tmp_path_factory.mktemp("tuned")
    shutil.copytree(models / "vit", root / "vit")
    changes = {"lora_rank": 2, "layer_decay": 0.5, "image_lr_scale": 0.1, "optimizer": "adamc", "keep_checkpoints": 9}
    run = fit(start_from(root / "vit", **QUICK, **changes), root / "run", progress=False, report=False)
    shutil.rmtree(root / "vit")
    return run


def test_what_a_model_says_of_itself_is_in_the_experiment(models):
    ex, model = start_from(models / "clip", batch_size=16), adopt(models / "clip")
    assert (ex.loss, ex.learn_temperature, ex.lr, ex.batch_size) == ("clip", True, LR, 16)
    assert ex.temperature == pytest.approx(float(torch.tensor(-model.logit_scale).exp()))
    assert (ex.image_size, ex.text_length, ex.embedding_dim, ex.resize) == (32, 16, 24, model.resize)
    assert start_from(models / "clip", lora_rank=4).lr == LORA_LR
    assert experiment_of("tiny", {"start": str(models / "clip")}).train_size == 4000
    assert experiment_of(None, {"lr": 0.1}) == Experiment(lr=0.1)
    assert Experiment.from_json(ex.to_json()) == ex


def test_a_run_goes_on_with_its_own_pairs_unless_others_are_named(whole):
    own = start_from(whole.folder, batch_size=4)
    assert (own.data, own.eval_data, own.batch_size) == (whole.experiment.data, whole.experiment.eval_data, 4)
    assert start_from(whole.folder, data="scenes").data == "scenes"
    assert start_from(whole.folder, preset="flickr8k").data == "flickr8k"


def test_a_siglip_keeps_its_loss_unless_told(models, caplog):
    model = adopt(models / "siglip")
    with caplog.at_level(logging.WARNING):
        ex = start_from(models / "siglip")
        assert "fine-tuned" not in caplog.text
        other = start_from(models / "siglip", loss="clip", temperature=0.05)
    assert ex.loss == "siglip" and ex.loss_options["bias"] == pytest.approx(model.logit_bias)
    assert other.loss == "clip" and other.learn_temperature and other.loss_options == {}
    assert "trained with the loss siglip (logit scale" in caplog.text
    assert "fine-tuned with the loss clip (logit scale 20)" in caplog.text


def test_another_loss_in_a_grid_is_as_in_a_run_of_its_own(models):
    """Of a SigLIP, whose options no other loss has; and an optimizer has the same part of the preset's rate."""
    base = start_from(models / "siglip", preset="tiny")
    for loss in ("clip", "sogclr", "siglip"):
        assert with_loss(base, loss) == start_from(models / "siglip", preset="tiny", loss=loss)
    assert with_loss(base.replace(learn_temperature=False), "clip", {"learn_temperature"}).learn_temperature is False
    assert with_loss(Experiment(loss_options={"scale": "clip"}), "sogclr").loss_options == {"scale": "clip"}
    assert of_optimizers("tiny", base)["sgd"] == {"lr": pytest.approx(LR * 10), "clip_grad": 10.0}
    assert of_optimizers("tiny", Experiment(lr=1.0))["sgd"]["lr"] == 0.03


@pytest.mark.parametrize("changes", [{"temperature": 0.01}, {"loss": "sogclr"}, {"loss": "vicreg"}])
def test_another_loss_or_scale_is_told_and_can_be_built(models, caplog, changes):
    with caplog.at_level(logging.WARNING):
        ex = start_from(models / "clip", **changes)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "trained with the loss clip (logit scale 14.28)" in line and f"with the loss {ex.loss}" in line
    clipedu.training.objective.check_names(ex)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text_length": 20}, "text_length=20 cannot be given beside .*, which fixes it: 16"),
        ({"image_size": 50}, "image_size=50 is no multiple of its patches' 8 pixels"),
        ({"lora_rank": 4, "image_frozen": True, "text_frozen": True}, "leave one of them out"),
        ({"lora_rank": 33}, "take 32 or less"),
        ({"lora_rank": 2, "lock": ["image_encoder", "text_encoder"]}, "lora_rank=2 has nothing to adapt"),
        (
            {"image_frozen": True, "lock": ["text_encoder", "image_projection", "text_projection"]},
            "nothing of the model is left to train: image_frozen=True and lock=text_encoder image_projection",
        ),
        ({"geometry": "lorentz"}, "geometry='lorentz' cannot be given"),
        ({"batch_size": -1}, "batch_size=-1"),
        ({"preset": "mini"}, "unknown preset 'mini'"),
        ({"lock": "image_encoder.x"}, None),
    ],
)
def test_settings_that_a_model_fixes_are_refused(models, changes, said, tmp_path):
    """Where the experiment is made, before data are opened."""
    with pytest.raises(ClipeduError, match=said or "is no part of the model"):
        start_from(models / "clip", **{**QUICK, **changes})


@pytest.mark.parametrize("kind", ["vit", "clip"])
def test_a_model_is_trained_on_images_of_another_size(models, kind, tmp_path):
    """Its folder builds it again without the model; another run goes on with a third size."""
    shutil.copytree(models / kind, tmp_path / "model")
    ex = start_from(tmp_path / "model", **{**QUICK, "epochs": 1, "image_size": 48, "lora_rank": 2})
    assert ex.image_size == 48 and "--image-size 48" in fit(ex, tmp_path / "a", progress=False, report=False).command
    shutil.rmtree(tmp_path / "model")
    model, pixels = load_run(tmp_path / "a").model(), torch.zeros(1, 3, 48, 48)
    assert model.image_size == 48 and model.encode_image(pixels).shape == (1, 24)
    other = fit(start_from(tmp_path / "a", **{**QUICK, "image_size": 32}), tmp_path / "b", progress=False, report=False)
    assert load_run(other.folder).model().image_size == 32
    with pytest.raises(ClipeduError, match="image_size=20 cannot be given beside .*a, whose images have 48"):
        start_from(tmp_path / "a", image_size=20)


def test_a_run_needs_nothing_of_the_model_it_started_from(tuned):
    run = load_run(tuned.folder)
    assert run.status == "finished" and not (run.folder / "tokenizer").exists()
    merged, unmerged = run.model(), run.model(merged=False)
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        for one, other in (
            (merged.encode_image(pixels), unmerged.encode_image(pixels)),
            (merged.embed_texts(["a red star"]), unmerged.embed_texts(["a red star"])),
        ):
            unit = torch.nn.functional.normalize
            torch.testing.assert_close(unit(one), unit(other), rtol=0, atol=1e-6)
    assert "lora_A" in " ".join(run.layers["layer"]) and set(run.norms["part"]) == {"all", "image", "text"}
    assert "--from" in run.command and "released" not in run.command and "--layer-decay 0.5" in run.command


def test_what_has_no_adapter_is_told_in_training_alone(tuned, caplog):
    with caplog.at_level(logging.INFO):
        load_run(tuned.folder).model()
    assert "without an adapter" not in caplog.text


def test_it_goes_on_as_if_it_had_never_stopped(tuned, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tuned.folder, folder)
    for path in (folder / "checkpoint").iterdir():
        if path.is_dir() and int(path.name.rpartition("-")[2]) > 2:
            shutil.rmtree(path)
    for name in ("metrics.json", "embeddings.safetensors"):
        (folder / name).unlink(missing_ok=True)
    status = json.loads((folder / "status.json").read_text()) | {"status": "stopped", "scored": None}
    (folder / "status.json").write_text(json.dumps({k: v for k, v in status.items() if v is not None}))
    again = resume(folder, progress=False, report=False)
    before, now = tuned.weights(), again.weights()
    assert all(torch.equal(before[name], now[name]) for name in before)
    assert again.metrics == tuned.metrics


def test_what_is_kept_is_not_to_be_changed(tuned, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tuned.folder, folder)
    file = folder / "released" / "open_clip_config.json"
    file.write_text(file.read_text() + "\n")
    with pytest.raises(ClipeduError, match="released is not what the run was trained with"):
        load_run(folder).model()


def test_a_run_starts_from_a_run(tuned, tmp_path):
    """With the merged weights, all of them trained; its first checkpoint has the weights that it started with."""
    ex = start_from(tuned.folder, **{**QUICK, "epochs": 1, "keep_checkpoints": 9})
    assert (
        ex.temperature == pytest.approx(float(tuned.history["temperature"].iloc[-1]), rel=1e-2) and ex.lora_rank is None
    )
    run = fit(ex, tmp_path / "run", progress=False, report=False)
    assert all(p.requires_grad for name, p in run.model().named_parameters() if name.startswith("image_encoder."))
    start, theirs = (
        clipedu.runs.checkpoint.read_weights(run.folder / "checkpoint" / "step-00000000"),
        tuned.model().state_dict(),
    )
    assert all(torch.equal(start[name], theirs[name]) for name in theirs)


def test_a_run_of_our_own_encoders_starts_another(tmp_path):
    first = fit(Experiment(**QUICK), tmp_path / "a", progress=False, report=False)
    ex = start_from(tmp_path / "a", **{**QUICK, "text_frozen": True, "layer_decay": 0.8})
    assert ex.lr == 1e-3 and start_from(tmp_path / "a").lr == pytest.approx(1e-4)
    second = fit(ex, tmp_path / "b", progress=False, report=False)
    shutil.rmtree(tmp_path / "a")
    model = load_run(second.folder).model()
    assert (second.folder / "tokenizer").is_dir() and model.frozen == ("text",)
    before, now = first.experiment, second.experiment
    assert before.image_encoder == now.image_encoder and before.loss == now.loss
    with pytest.raises(ClipeduError, match="start_weights='random' has no effect"):
        start_from(second.folder, "random")


def test_foils_of_a_run_are_left_out_where_there_can_be_none(finished, monkeypatch):
    of_run = starting._of_run
    monkeypatch.setattr(starting, "_of_run", lambda run, lora: of_run(run, lora=lora) | {"foils": 0.5})
    assert starting.start_from(finished.folder).foils == 0.5
    assert starting.start_from(finished.folder, text_frozen=True).foils == 0.0
    assert "foils=1 with text_frozen=True" in message_of(
        starting.start_from, finished.folder, foils=1, text_frozen=True
    )
