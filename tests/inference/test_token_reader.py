"""Tokens of encoders that read their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clipedu.geometry import build_geometry
from clipedu.inference.token_reader import IMAGES, check_pixels, no_maps, read_blocks, reader_of, token_count
from clipedu.models.dual_encoder import DualEncoder, Tower
from clipedu.utils.errors import ClipeduError


class Reader(nn.Module):
    """Each row of an 8 x 8 image is a token; blocks double them."""

    grid, kept, growing = (4, 2), 2, False

    def forward(self, pixels):
        return pixels.flatten(1)

    def grid_size(self):
        return self.grid

    def token_states(self, pixels):
        states = [pixels.mean(1) * 2**block for block in range(self.kept)]
        return [state[:, block:] for block, state in enumerate(states)] if self.growing else states

    def attention_weights(self, pixels):
        return [] if self.kept == 0 else [torch.eye(8).expand(len(pixels), 1, 8, 8)] * self.kept


def model_of(reader: nn.Module) -> DualEncoder:
    stats, geometry = ((0.0,) * 3, (1 / 255,) * 3), build_geometry("cosine", 4)
    model = DualEncoder(
        Tower(reader, 192), Tower(nn.Identity(), 4), embedding_dim=4, pixel_stats=stats, geometry=geometry
    )
    model.image_size = 8
    return model


def test_reading_in_parts():
    model = model_of(Reader())
    reader = reader_of(model)
    assert reader is model.image_encoder and token_count(model, reader) == 8
    pixels = torch.randint(0, 256, (IMAGES + 3, 3, 8, 8))
    norms = read_blocks(model, pixels, reader.token_states, lambda x: x.norm(dim=-1))
    assert norms.shape == (2, IMAGES + 3, 8) and model.training
    torch.testing.assert_close(norms[1], 2 * pixels.float().mean(1).norm(dim=-1))


def test_what_is_no_reader():
    assert reader_of(model_of(nn.Flatten())) is None and reader_of(nn.Flatten()) is None and reader_of(Reader()) is None


@pytest.mark.parametrize("change", [{"grid": (0, 0)}, {"grid": (3, 3)}, {"kept": 0}, {"growing": True}])
def test_readers_that_have_nothing_to_read(change):
    reader = Reader()
    for name, value in change.items():
        setattr(reader, name, value)
    with pytest.raises(ClipeduError, match="^a Reader has no attention maps that can be read here"):
        reader_of(model_of(reader))
    if change == {"kept": 0}:
        with pytest.raises(ClipeduError, match="^a Reader has no attention maps"):
            read_blocks(model_of(reader), torch.zeros(1, 3, 8, 8), reader.attention_weights, lambda x: x)


def test_pixels_that_do_not_fit():
    for shape in ((3, 8, 8), (0, 3, 8, 8), (1, 1, 8, 8), (1, 3, 8, 9)):
        with pytest.raises(ClipeduError, match=r"do not fit this model, which takes \[B, 3, 8, 8\]"):
            check_pixels(model_of(Reader()), (8, 8), torch.zeros(shape))
    with pytest.raises(ClipeduError, match="a bare image encoder takes normalised floats, not torch.uint8 pixels"):
        check_pixels(nn.Flatten(), (8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    assert str(no_maps(nn.ReLU())).startswith("a ReLU has no attention maps")
