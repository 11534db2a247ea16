"""The code that goes with a model: it computes what clipedu computes."""

import pytest
import torch

from clipedu import GEOMETRIES, build_geometry
from clipedu.exports.modeling_clipedu import ClipeduConfig, ClipeduModel, Geometry
from tests.helpers.releases import SMALL, same

pytestmark = pytest.mark.xdist_group("exports")


@pytest.mark.parametrize("name", sorted(GEOMETRIES))
@torch.no_grad()
def test_similarities_are_those_of_clipedu(name):
    ours, theirs = build_geometry(name, 6), Geometry(name)
    for parameter in ours.parameters():
        parameter.add_(0.3)
    theirs.load_state_dict(ours.state_dict())
    generator = torch.Generator().manual_seed(1)
    x, y = (3 * torch.randn(count, 6, generator=generator) for count in (4, 5))
    (x, x2), (y, y2) = ([g.tangent(v, side) for g in (ours, theirs)] for v, side in ((x, "image"), (y, "text")))
    assert torch.equal(x, x2) and torch.equal(y, y2)
    assert same(theirs.similarity(x, y), ours.similarity(x, y), 3e-6)
    assert same(theirs.similarity(x, x), ours.similarity(x, x), 3e-4)  # of a point to itself: rounding of zero


def config(**changes):
    text = {"model_type": "distilbert", "vocab_size": 30, "max_position_embeddings": 16, **SMALL}
    settings = {
        "image_architecture": "test_resnet",
        "image_args": {"num_classes": 0},
        "widths": [96, 16],
        "embedding_dim": 4,
    }
    return ClipeduConfig(text_config=text, **settings | changes)


@torch.no_grad()
def test_logits_are_similarities_with_scale_and_bias():
    model = ClipeduModel(config(logit_bias=True)).eval()
    model.logit_scale.fill_(1.5), model.logit_bias.fill_(-0.7)
    pixels, ids = torch.randn(2, 3, 32, 32), torch.randint(5, 30, (3, 7))
    out = model(input_ids=ids, pixel_values=pixels)
    image, text = model.get_image_features(pixels), model.get_text_features(ids)
    expected = torch.tensor(1.5).exp() * torch.nn.functional.cosine_similarity(image[:, None], text[None], dim=-1) - 0.7
    torch.testing.assert_close(out.logits_per_image, expected)
    assert torch.equal(out.logits_per_text, out.logits_per_image.T)
    torch.testing.assert_close(out.image_embeds.norm(dim=-1), torch.ones(2))
    alone = model(pixel_values=pixels)
    assert (
        alone.logits_per_image is None
        and alone.text_embeds is None
        and torch.equal(alone.image_embeds, out.image_embeds)
    )
    assert len(model(input_ids=ids, return_dict=False)) == 1


@torch.no_grad()
def test_all_texts_are_padded_where_the_encoder_needs_it():
    model = ClipeduModel(config(text_padding=[10, 3], text_pooling="last")).eval()
    seen = {}
    model.text_encoder.register_forward_pre_hook(lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True)
    model.get_text_features(torch.tensor([[7, 8, 9], [7, 8, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    assert seen["input_ids"].tolist() == [[7, 8, 9] + 7 * [3], [7, 8] + 8 * [3]]
    assert seen["attention_mask"].sum(1).tolist() == [3, 2]


def test_defaults_build_a_configuration():
    assert ClipeduConfig().text_config.model_type == "distilbert"
    again = ClipeduConfig.from_dict(config(text_padding=[10, 3]).to_dict())
    assert again.text_config.dim == 16 and again.text_padding == [10, 3]
