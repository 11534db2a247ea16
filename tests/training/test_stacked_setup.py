"""Frozen encoders and their features are made once for all runs that have the same."""

import pytest
import torch

from clipedu import ClipeduError
from clipedu.models.remembered import found_once
from clipedu.training import stacked_setup
from clipedu.training.datasets import load_training_data
from clipedu.training.stacked_setup import Encoders


def test_encoders_are_made_once_and_weights_for_each(quick, monkeypatch):
    base = quick.replace(image_frozen=True, text_frozen=True)
    data, made, original = load_training_data(base), [], stacked_setup.prepare
    monkeypatch.setattr(stacked_setup, "prepare", lambda *a, **k: made.append(1) or original(*a, **k))
    encoders = Encoders(progress=False)
    one, other, seed = (
        encoders.trainer(ex, data)
        for ex in (base, base.replace(lr=1e-4, loss="dcl", batch_size=8, optimizer="sgd"), base.replace(seed=1))
    )
    assert len(made) == 2
    assert one.model.image_encoder is other.model.image_encoder is not seed.model.image_encoder
    assert one.precomputed is other.precomputed and one.model.remembered is other.model.remembered
    assert one.model.image_projection.weight is not other.model.image_projection.weight
    assert torch.equal(one.model.image_projection.weight, other.model.image_projection.weight)
    found_once(one.model, "key", lambda: 1)
    encoders.forget()
    assert one.model.remembered == {}


def test_a_model_without_a_projection_is_refused(quick, monkeypatch):
    """As a SigLIP's image tower."""
    base = quick.replace(image_frozen=True, text_frozen=True)
    data, original = load_training_data(base), stacked_setup.prepare

    def without(*args, **kwargs):
        trainer = original(*args, **kwargs)
        trainer.model.image_projection = torch.nn.Identity()
        return trainer

    monkeypatch.setattr(stacked_setup, "prepare", without)
    with pytest.raises(ClipeduError, match="its image_projection is none"):
        Encoders(progress=False).trainer(base, data)


def test_equal_features_are_held_once(quick, tmp_path):
    """As those of pretrained encoders, whatever the seed; here of weights from files."""
    base = quick.replace(image_frozen=True, text_frozen=True)
    data, encoders = load_training_data(base), Encoders(progress=False)
    first = encoders.trainer(base, data)
    found = first.precomputed
    same = type(found)(found.image.clone(), tuple(x.clone() for x in found.text))
    assert encoders._known(same) is found
    changed = type(found)(found.image + 1, found.text)
    assert encoders._known(changed) is changed
