"""The step before the first: what fails is a line, what works leaves everything as it was."""

from __future__ import annotations

import pytest
import torch

from clipedu import Experiment
from clipedu.training.datasets import load_training_data
from clipedu.training.setup import prepare
from clipedu.training.trial import state_bytes, try_step
from tests.helpers.errors import message_of


@pytest.fixture(scope="module")
def base() -> Experiment:
    return Experiment(train_size=64, batch_size=16, epochs=1)


@pytest.fixture(scope="module")
def data(base):
    return load_training_data(base)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"accumulate": 16},
            "leaves one pair in a part, and batch norm (image_encoder.conv1.1) needs at least 2: accumulate=8 or",
        ),
        ({"image_options": {"drop_path_rate": 2}}, "fails, image_options={'drop_path_rate': 2}: bernoulli_ expects p"),
        ({"text_options": {"dropout": 0.5, "attention_dropout": 0.5, "n_heads": 3}}, "n_heads"),
    ],
)
def test_what_fails_in_a_step_is_a_line_before_the_run(base, data, changes, words):
    message = message_of(prepare, base.replace(**changes), data, progress=False)
    assert words in message and len(message) < 500


@pytest.mark.parametrize(
    "changes",
    [
        {"image_encoder": "vit_nano_patch4_32", "accumulate": 16},  # no batch norm
        {"image_frozen": True, "accumulate": 16},  # a frozen one has no statistics to take
        {"text_frozen": True, "image_frozen": True},
        {"precision": "bf16"},
        {"loss": "sogclr", "geometry": "lorentz", "learn_temperature": True, "temperature": 0.1},
    ],
)
def test_what_works_is_prepared(base, data, changes):
    assert prepare(base.replace(**changes), data, progress=False).step == 0


def test_the_trial_leaves_model_loss_and_random_state(base, data):
    trainer = prepare(base.replace(loss="sogclr"), data, progress=False)
    trainer.model.tokenizer = None
    before = {name: t.clone() for m in (trainer.model, trainer.loss) for name, t in m.state_dict().items()}
    random, mode = torch.get_rng_state(), trainer.model.training

    def build(model, loss):
        return torch.optim.AdamW([*model.parameters()], lr=1.0)

    optimizer, pair, unused = try_step(
        trainer.experiment, trainer.model, trainer.loss, build, data.tokenizer.vocab_size
    )
    after = {name: t for m in (trainer.model, trainer.loss) for name, t in m.state_dict().items()}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert torch.equal(torch.get_rng_state(), random) and trainer.model.training == mode
    assert all(p.grad is None for p in trainer.model.parameters())
    trained = sum(p.nbytes for p in trainer.model.parameters())
    assert 1.9 * trained < optimizer < 2.1 * trained  # two averages
    assert not unused
    assert pair > 3 * 32 * 32 * 4  # its normalised pixels at least


def test_bytes_of_a_state():
    weight = torch.nn.Parameter(torch.ones(10))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    assert state_bytes(optimizer) == 0
    weight.sum().backward()
    optimizer.step()
    assert state_bytes(optimizer) == 40


def test_a_pair_with_a_foil_keeps_two_captions(base, data):
    kept = {}
    for foils in (0.0, 1.0):
        trainer = prepare(base.replace(foils=foils), data, progress=False)
        build = lambda model, loss: torch.optim.SGD([*model.parameters()], lr=1.0)  # noqa: E731
        _, kept[foils], unused = try_step(
            trainer.experiment, trainer.model, trainer.loss, build, data.tokenizer.vocab_size
        )
        assert not unused
    plain = prepare(base.replace(image_frozen=True), data, progress=False)
    _, text, _ = try_step(plain.experiment, plain.model, plain.loss, build, data.tokenizer.vocab_size)
    assert kept[1.0] - kept[0.0] == pytest.approx(text, rel=0.1)
