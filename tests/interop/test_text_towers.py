"""Text towers: the library's pooling, under its mask."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from clipedu.interop.text_towers import OpenClipText, TransformersText

IDS, MASK = torch.tensor([[3, 4, 0]]), torch.tensor([[1, 1, 0]])


class Kept(nn.Module):
    """Returns what it was called with."""

    def forward(self, *args, **kwargs):
        return SimpleNamespace(pooler_output=(args, kwargs))


def test_open_clip_reads_ids_alone():
    assert OpenClipText(Kept())(IDS, MASK).pooler_output == ((IDS,), {})
    pair = nn.Module()
    pair.forward = lambda ids: (ids + 1, "tokens")
    assert torch.equal(OpenClipText(pair)(IDS, MASK), IDS + 1)


def test_transformers_reads_the_mask_or_none():
    for masked in (True, False):
        args, kwargs = TransformersText(Kept(), masked=masked)(IDS, MASK)
        assert args == () and kwargs["input_ids"] is IDS and kwargs["attention_mask"] is (MASK if masked else None)


def test_without_pooling_the_states_come_out():
    bare = nn.Module()
    bare.forward = lambda input_ids, attention_mask: SimpleNamespace(last_hidden_state=input_ids[..., None])
    assert TransformersText(bare, masked=True)(IDS, MASK).shape == (1, 3, 1)
