"""The last LayerNorm of an encoder can be left out, where there is one."""

from __future__ import annotations

import pytest
import torch

from clipedu import ClipeduError, Experiment
from clipedu.models import build_model

VIT = Experiment.preset("tiny", image_encoder="fractal_vit_nano_patch4_32", final_norm=False)


def test_both_encoders_end_without_a_norm_and_all_else_is_as_it_was():
    before = torch.get_rng_state()
    model, plain = build_model(VIT, 500), build_model(VIT.replace(final_norm=True), 500)
    assert torch.equal(torch.get_rng_state(), before) and model.training
    kept, whole = model.state_dict(), plain.state_dict()
    gone = sorted(set(whole) - set(kept))
    assert len(gone) == 4 and all(name.endswith(("norm.weight", "norm.bias")) for name in gone)
    assert set(kept) < set(whole) and all(torch.equal(value, whole[name]) for name, value in kept.items())
    ids, mask = torch.randint(5, 500, (8, 6)), torch.ones(8, 6, dtype=torch.bool)
    pixels = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        free, bound = (m.eval().image_features(pixels) for m in (model, plain))
        read = model.text_features(ids, mask), plain.text_features(ids, mask)
    assert not torch.allclose(free, bound) and not torch.allclose(*read)
    assert (
        model.image_encoder.made_as.endswith("without its last norm")
        and plain.image_encoder.made_as != model.image_encoder.made_as
    )


def test_an_encoder_without_one_is_refused_by_name():
    with pytest.raises(
        ClipeduError, match="the image encoder 'test_resnet' does not end with a LayerNorm, but with"
    ) as caught:
        build_model(VIT.replace(image_encoder="test_resnet"), 500)
    assert "\n" not in str(caught.value) and "final_norm=True" in str(caught.value)


@pytest.mark.parametrize("text", ["bert"])
def test_text_encoders_with_the_norm_elsewhere(text):
    options = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    experiment = VIT.replace(text_encoder=text, text_options=options)
    model, plain = build_model(experiment, 500), build_model(experiment.replace(final_norm=True), 500)
    gone = {name for name in set(plain.state_dict()) - set(model.state_dict()) if name.startswith("text_encoder")}
    assert gone and all("norm" in name.lower() for name in gone)
