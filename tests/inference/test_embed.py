"""Embeddings of a set: in order, each caption with its row, in evaluation mode."""

import pytest
import torch

from clipedu.data.scenes.dataset import Scenes
from clipedu.inference import features
from clipedu.inference.embed import PairEmbeddings, embed_images, embed_pairs, embed_phrases


@pytest.fixture(scope="module")
def model(finished):
    return finished.model()


def test_each_image_and_caption_alone(model):
    pairs = Scenes("val", 7)
    embeddings = embed_pairs(model, pairs)
    assert embeddings.image.shape == (7, 16) and embeddings.text.shape == (35, 16)
    assert embeddings.owner.tolist() == [row for row in range(7) for _ in range(5)]
    with torch.no_grad():
        for row in range(7):
            alone = model.encode_image(pairs.pixels(torch.tensor([row])))
            torch.testing.assert_close(embeddings.image[row : row + 1], alone, rtol=1e-4, atol=1e-5)
            own = model.embed_texts(pairs.captions(row))
            torch.testing.assert_close(embeddings.text[embeddings.owner == row], own, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(embeddings.first_text[row], own[0], rtol=1e-4, atol=1e-5)


def test_first_captions_where_rows_have_different_numbers():
    text = torch.arange(6.0)[:, None]
    embeddings = PairEmbeddings(torch.zeros(3, 1), text, torch.tensor([0, 0, 0, 1, 2, 2]))
    assert embeddings.first_text[:, 0].tolist() == [0, 3, 4]


def test_chunks_change_nothing(model, monkeypatch):
    pairs = Scenes("val", 9)
    whole = embed_pairs(model, pairs)
    monkeypatch.setattr(features, "CHUNK_PIXELS_CPU", 2 * 32 * 32)
    torch.testing.assert_close(embed_images(model, pairs), whole.image, rtol=1e-4, atol=1e-5)


def test_the_mode_is_put_back(model):
    model.train()
    try:
        dropped = embed_phrases(model, ["a red circle"] * 2)
        assert model.training and torch.equal(dropped[0], dropped[1])
    finally:
        model.eval()
