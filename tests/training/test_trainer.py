"""The loop: it learns, it is repeatable, it sees what the batches hold, and it stops at the first NaN."""

import math

import pytest
import torch

from clipedu import ClipeduError, Experiment, train
from clipedu.data.batches import Precomputed
from clipedu.data.tokenizer import Tokenizer
from clipedu.losses import LOSSES
from clipedu.training.datasets import load_training_data
from clipedu.training.setup import prepare
from clipedu.utils.finite import NotFinite


def ready(experiment):
    """A trainer at step 0, with its data."""
    return prepare(experiment, load_training_data(experiment), progress=False)


def test_records_tell_what_each_step_did(quick):
    records = list(train(quick))
    assert [r.step for r in records] == list(range(8))
    assert [r.epoch for r in records] == [0] * 4 + [1] * 4
    assert all(r.steps == 8 and r.pairs_per_second > 0 for r in records)
    assert all(math.isfinite(r.loss) and set(r.norms) == {"all", "image", "text"} for r in records)
    for record in records:
        for name in ("weight", "gradient", "update"):
            parts = math.hypot(record.norms["image"][name], record.norms["text"][name])
            assert record.norms["all"][name] == pytest.approx(parts, rel=1e-5)


def test_layers_are_recorded_each_so_many_steps(quick):
    trainer = ready(quick.replace(norms_every=3, optimizer="adamc", weight_decay=0.5))
    rates = [record.lr for record in trainer.run()]
    frame = trainer.monitor.frame()
    assert frame["step"].unique().tolist() == [0, 3, 6] and set(frame["part"]) == {"image", "text"}
    head = frame[frame["layer"] == "text_projection.weight"]
    body = frame[frame["layer"] == "text_encoder.embeddings.word_embeddings.weight"]
    assert set(head["kind"]) == {"head"} and set(head["group"]) == {"head"} and set(body["kind"]) == {"matrix"}
    peak = max(quick.lr, *rates)
    assert head["shrink"].tolist() == pytest.approx([rates[k] * 0.5 for k in (0, 3, 6)])
    assert body["shrink"].tolist() == pytest.approx([rates[k] ** 2 / peak * 0.5 for k in (0, 3, 6)])


def test_learns_to_match_a_handful_of_scenes():
    experiment = Experiment(train_size=32, batch_size=16, epochs=20, embedding_dim=32, lr=3e-3)
    losses = [record.loss for record in train(experiment)]
    assert sum(losses[-4:]) / 4 < 0.6 * losses[0], "the loss has to fall far below log(16) on 32 scenes seen 20 times"


def test_same_experiment_same_numbers(quick):
    assert [r.loss for r in train(quick)] == [r.loss for r in train(quick)]
    assert [r.loss for r in train(quick)] != [r.loss for r in train(quick.replace(seed=1))]


def test_learning_rate_follows_the_schedule(quick):
    rates = [record.lr for record in train(quick.replace(warmup=0.5, lr=0.01))]
    assert rates[:4] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert all(later < earlier for earlier, later in zip(rates[3:], rates[4:], strict=False)) and rates[-1] > 0


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_every_loss_steps_with_every_optimizer(quick, loss, optimizer):
    experiment = quick.replace(loss=loss, optimizer=optimizer, lr=1e-3, train_size=32, epochs=1)
    trainer = ready(experiment)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    assert len(list(trainer.run())) == 2
    changed = [not torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True)]
    assert sum(changed) > 0.9 * len(changed)


def test_nan_stops_and_names_the_step(quick):
    with pytest.raises(NotFinite, match=r"not finite at step [1-7] .*smaller lr"):
        list(train(quick.replace(optimizer="sgd", lr=1e12, warmup=0.0)))


def poisoned(quick, step, poison):
    """A trainer whose model, loss and optimizer are changed right after the update of a step."""
    trainer = ready(quick)

    def spoil(*_):
        if trainer.step == step:
            with torch.no_grad():
                poison(trainer)

    trainer.optimizer.register_step_post_hook(spoil)
    return trainer


def buffer_of(model):
    return next(tensor for name, tensor in model.named_buffers() if name.endswith("running_var"))


def test_a_zero_eps_stops_at_the_step_that_makes_a_nan(quick):
    """Rows without a gradient become 0 / 0, and the loss sees them batches later, or never."""
    with pytest.raises(NotFinite, match=r"^the weight '.*weight' \(NaN\) is not finite after step 0 \(lr"):
        list(train(quick.replace(optimizer_options={"eps": 0})))


@pytest.mark.parametrize(
    "poison, named",
    [
        (lambda t: buffer_of(t.model).fill_(math.nan), "the buffer 'image_encoder.*running_var' \\(NaN\\)"),
        (lambda t: t.model.text_projection.weight.fill_(math.inf), "the weight 'text_projection.weight' \\(inf\\)"),
        (lambda t: t.model.text_projection.weight.fill_(1e37), "the weight 'text_projection.weight' \\(1e\\+37\\)"),
        (
            lambda t: t.optimizer.state[t.model.text_projection.weight]["exp_avg_sq"].fill_(math.inf),
            "the optimizer's 'exp_avg_sq of text_projection.weight' \\(inf\\)",
        ),
    ],
    ids=["buffer", "weight", "large", "state"],
)
def test_what_the_last_step_spoils_does_not_pass_for_finished(quick, poison, named):
    trainer = poisoned(quick, 7, poison)
    with pytest.raises(NotFinite, match=f"^{named} is not finite after step 7 "):
        list(trainer.run())


def test_what_a_loss_keeps_is_checked(quick):
    trainer = poisoned(quick.replace(loss="sogclr"), 7, lambda t: t.loss.state_dict()["log_u"].fill_(math.nan))
    with pytest.raises(NotFinite, match=r"^the loss's 'log_u' \(NaN\) is not finite after step 7 "):
        list(trainer.run())


def test_clipping_bounds_the_update_but_not_the_measured_gradient(quick):
    experiment = quick.replace(
        optimizer="sgd",
        lr=1.0,
        warmup=0.0,
        schedule="constant",
        weight_decay=0.0,
        epochs=1,
        optimizer_options={"momentum": 0.0, "nesterov": False},
        clip_grad=0.01,
    )
    first = next(train(experiment))
    assert first.norms["all"]["gradient"] > 0.02
    assert first.norms["all"]["update"] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("side", ["image", "text"])
def test_a_frozen_encoder_trains_from_kept_features_as_from_scratch(quick, side):
    """Features computed once give the steps that running the frozen encoder each time would give."""
    experiment = quick.replace(
        **{f"{side}_frozen": True}, text_options={"dropout": 0.0, "attention_dropout": 0.0}, epochs=1
    )
    kept = [record.loss for record in ready(experiment).run()]

    trainer = ready(experiment)
    trainer.precomputed = Precomputed()
    model = trainer.model
    if side == "image":
        project, model.image_projection = model.image_projection, torch.nn.Identity()
        model.image_projection = _Chain(model.image_features, project)
    else:
        project = model.text_projection
        model.text_projection = _Chain(lambda ids: model.text_features(ids, ids != model.tokenizer.pad_id), project)
    trainer.optimizer.param_groups[0]["params"] = [p for p in trainer.optimizer.param_groups[0]["params"]]
    assert [record.loss for record in trainer.run()] == pytest.approx(kept, rel=2e-4)


class _Chain(torch.nn.Module):
    def __init__(self, first, then):
        super().__init__()
        self.first, self.then = first, then

    def forward(self, x):
        with torch.no_grad():
            x = self.first(x)
        return self.then(x)


def test_bf16_autocast_stays_close_to_float32(quick):
    fine, rough = (
        [r.loss for r in train(quick.replace(precision=p, train_size=32, epochs=1))] for p in ("fp32", "bf16")
    )
    assert rough == pytest.approx(fine, rel=0.05) and rough != fine


def test_augmentation_changes_what_is_seen(quick):
    plain, cropped = (next(train(quick.replace(augment=how))).loss for how in ("none", "crop"))
    assert plain != cropped


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "clipp"}, "unknown loss 'clipp'. Did you mean 'clip'"),
        ({"optimizer": "adamx"}, "unknown optimizer 'adamx'. Did you mean 'adam"),
        ({"geometry": "cosin"}, "unknown geometry 'cosin'. Did you mean 'cosine'"),
        ({"image_encoder": "resnet5O"}, "unknown image encoder 'resnet5O'"),
        ({"text_encoder": "distilbrt"}, "unknown text encoder 'distilbrt'"),
        ({"data": "scene"}, "'scene'"),
        ({"device": "cuda:77"}, "device='cuda:77' cannot be used here"),
        ({"loss_options": {"gama": 1}}, "gama"),
        ({"text_length": 500}, "text_length=500 is more than the text encoder"),
    ],
)
def test_what_can_not_work_is_one_line(quick, changes, message):
    with pytest.raises(ClipeduError) as caught:
        next(train(quick.replace(**changes)))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_captions_are_cleaned_on_request_and_the_run_remembers(quick, tmp_path):
    trainer = ready(quick.replace(clean_captions=True))
    tokenizer = trainer.model.tokenizer
    tokenizer.save(tmp_path)
    for one in (tokenizer, Tokenizer.load(tmp_path)):
        ids, lengths = one.encode(["A SMALL red star, (above) a blue-ring!", "a small red star above a blue ring"])
        assert (ids[0] == ids[1]).all() and lengths[0] == lengths[1] == 10
    plain = ready(quick).model.tokenizer
    assert plain.encode(["a star, red"])[1] > plain.encode(["a star red"])[1]  # the comma is a token


def test_the_courses_recipe_steps_on_shards(tmp_path, monkeypatch):
    """The `course` preset whole (ResNet-50, DistilBERT, crop and flip), but for size, hub weights and number of pairs."""
    from tests.helpers.shard_maker import make_shards

    monkeypatch.setenv("CLIPEDU_CACHE", str(tmp_path / "cache"))
    folder = make_shards(tmp_path / "cc3m", 8)
    experiment = Experiment.preset(
        "course",
        data=str(folder),
        image_weights="random",
        text_weights="random",
        image_size=64,
        batch_size=2,
        epochs=1,
        text_options={"n_layers": 1},
    )
    trainer = ready(experiment)
    records = list(trainer.run())
    assert len(records) == len(trainer.pairs) // 2 and all(math.isfinite(record.loss) for record in records)
    assert trainer.model.image_projection.weight.shape == (256, 2048)
    assert trainer.model.text_projection.weight.shape == (256, 768)
