"""A run's model, made again from its folder: the same one, or a line that names the file that does not fit."""

from __future__ import annotations

import json

import torch

from clipedu.geometry import build_geometry
from clipedu.runs.checkpoint import read_facts
from clipedu.runs.folders import load_run, new_run
from clipedu.runs.kept import keep_text_config
from clipedu.runs.rebuilding import empty_model, load_geometry, model_to_train, saved_text
from tests.helpers.errors import message_of
from tests.runs.example_run import EX, state_of


def test_the_model_comes_back(run, model, tokenizer):
    tokenizer.save(run.folder / "tokenizer")
    run.save_checkpoint(4, model, state_of(4))
    again = load_run(run.folder).model()
    assert not again.training and again.device.type == "cpu"
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert torch.equal(again.embed_texts(["a red circle"]), model.embed_texts(["a red circle"]))
    x = torch.eye(8)
    assert torch.allclose(again.geometry.similarity(x, x), x)


def test_the_model_comes_back_without_the_weights_it_began_with(run, model, tokenizer, tmp_path):
    other = new_run(EX.replace(image_weights="gone.safetensors", text_weights="pretrained"), tmp_path / "other")
    tokenizer.save(other.folder / "tokenizer")
    other.save_checkpoint(1, model, {})
    assert torch.equal(load_run(other.folder).model().image_projection.weight, model.image_projection.weight)


def test_a_checkpoint_that_is_damaged_or_does_not_fit(run, model, tokenizer):
    tokenizer.save(run.folder / "tokenizer")
    run.save_checkpoint(4, torch.nn.Linear(2, 3), {})
    assert "does not fit its experiment" in message_of(run.model)
    path = run.checkpoint() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    assert "model.safetensors cannot be read: " in message_of(run.model)
    path.unlink()
    assert "model.safetensors cannot be read: " in message_of(run.weights)


def test_a_text_configuration_that_was_changed_is_not_scored_with(run, model, tokenizer):
    """The weights fit one with other heads too, and give other numbers."""
    tokenizer.save(run.folder / "tokenizer")
    keep_text_config(run.folder, model.text_encoder.config)
    run.save_checkpoint(4, model, state_of(4))
    path = run.folder / "text_encoder" / "config.json"
    content = json.loads(path.read_text())
    for change in ({"n_heads": 2 * content["n_heads"]}, {"clipedu_padded_to": "x"}, {"activation": "relu"}):
        path.write_text(json.dumps(content | change))
        assert message_of(run.model) == (
            f"{path} is not what the run was trained with: it is made again by clipedu train --resume {run.folder}"
        )
    path.write_text(json.dumps(content | {"transformers_version": "1.0"}))
    assert torch.equal(run.model().embed_texts(["a red circle"]), model.embed_texts(["a red circle"]))


def test_a_model_to_train_has_nothing_frozen_or_locked(model, tokenizer, tmp_path):
    other = new_run(EX.replace(text_frozen=True, lock=["image_projection"]), tmp_path / "other")
    tokenizer.save(other.folder / "tokenizer")
    other.save_checkpoint(1, model, {})
    kept, free = other.model(), model_to_train(other)
    assert (kept.frozen, kept.locked) == (("text",), ("image_projection",)) and (free.frozen, free.locked) == ((), ())
    assert all(parameter.requires_grad for parameter in free.parameters())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in free.state_dict().items())


def test_an_empty_model_has_the_form_and_the_tokenizer(run, model, tokenizer):
    tokenizer.save(run.folder / "tokenizer")
    run.save_checkpoint(1, model, {})
    empty = empty_model(run, read_facts(run.checkpoint()))
    assert {name: value.shape for name, value in empty.state_dict().items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }
    assert not torch.equal(empty.image_projection.weight, model.image_projection.weight)
    assert empty.tokenizer.vocab_size == tokenizer.vocab_size


def test_a_geometry_comes_back_as_it_was_learned(tmp_path, model):
    experiment = EX.replace(geometry="lorentz")
    other = new_run(experiment, tmp_path / "other")
    holder = torch.nn.Module()
    holder.geometry = build_geometry("lorentz", experiment.embedding_dim)
    with torch.no_grad():
        for parameter in holder.geometry.parameters():
            parameter.sub_(0.25)
    other.save_checkpoint(1, holder, {})
    again = load_geometry(other)
    learned = holder.geometry.state_dict()
    assert learned and all(torch.equal(value, learned[name]) for name, value in again.state_dict().items())


def test_a_text_configuration_that_cannot_be_read_is_none(tmp_path):
    assert saved_text(tmp_path) is None
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "text_encoder" / "config.json").write_text("[")
    assert saved_text(tmp_path) is None
    (tmp_path / "text_encoder" / "config.json").write_text('{"a": 1}')
    assert saved_text(tmp_path) == tmp_path / "text_encoder"
