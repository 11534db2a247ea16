"""Encoders without their last LayerNorm (EuCLIP, arXiv:2409.13079).

A LayerNorm at the end puts all features at about one length, and so the embeddings; without it the length is free, in which a
geometry with a root can tell generic from specific. Which module it is is found by running the encoder: the last module with
weights that a forward pass calls. ViTs, ConvNeXts, BERT, DistilBERT, ModernBERT and their kind have one; a ResNet has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from clipedu.utils.errors import ClipeduError


def drop_final_norm(encoder: nn.Module, run: Callable[[], Any], name: str) -> None:
    """Replace an encoder's last LayerNorm by nothing, in place.

    Args:
        encoder: changed in place; its mode and all random states are left as they were.
        run: makes one forward pass through it.
        name: of the encoder with its side, for the message.
    Raises:
        ClipeduError: its last layer with weights is no LayerNorm.
    """
    called: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, path=path: called.append(path))
        for path, module in encoder.named_modules()
        if not list(module.children()) and list(module.parameters()) and "pooler" not in path  # BERT's, not used here
    ]
    was_training = encoder.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            encoder.eval()
            run()
    finally:
        encoder.train(was_training)
        for hook in hooks:
            hook.remove()
    last = encoder.get_submodule(called[-1]) if called else encoder
    if "Norm" not in type(last).__name__ or "BatchNorm" in type(last).__name__:
        raise ClipeduError(
            f"final_norm=False: the {name} does not end with a LayerNorm, but with {type(last).__name__}, so there is none to leave "
            "out. Vision transformers, ConvNeXt, BERT, DistilBERT and ModernBERT do; or use final_norm=True"
        )
    parent, _, child = called[-1].rpartition(".")
    setattr(encoder.get_submodule(parent), child, nn.Identity())
    encoder.dropped_norm = called[-1]  # type: ignore[assignment]
    encoder.made_as = f"{getattr(encoder, 'made_as', '')} without its last norm"  # type: ignore[assignment]
