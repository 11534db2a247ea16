"""Features of a frozen encoder, computed once and kept on disk, so that a grid over losses and heads costs seconds.

The file's name is a hash of the encoder's weights, its pixel statistics and the data's fingerprint: whatever changes
the features changes the name. Files live in the cache folder (`CLIPEDU_CACHE`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from clipedu.data.cache import cache_folder
from clipedu.data.pairs import Pairs
from clipedu.models.dual import DualEncoder


def frozen_image_features(model: DualEncoder, pairs: Pairs, *, progress: bool = True) -> Tensor:
    """Image features of every row, float32 [N, F] on the CPU, from the cache or computed now."""
    return _cached(model, "image", pairs, lambda: embed_in_chunks(
        lambda rows: model.image_features(pairs.pixels(rows).to(model.device)), len(pairs),
        what=f"image features of {pairs.name}/{pairs.split}", progress=progress))


def frozen_text_features(model: DualEncoder, pairs: Pairs, *, progress: bool = True) -> tuple[Tensor, Tensor]:
    """Text features of every caption, float32 [T, G] on the CPU, and the first caption of each row, int64 [N + 1]."""
    ids, mask, row = pairs.all_tokens()
    first = torch.searchsorted(row, torch.arange(len(pairs) + 1))
    features = _cached(model, "text", pairs, lambda: embed_in_chunks(
        lambda which: model.text_features(ids[which].to(model.device), mask[which].to(model.device)), len(ids),
        what=f"text features of {pairs.name}/{pairs.split}", progress=progress))
    return features, first


@torch.no_grad()
def embed_in_chunks(embed, count: int, *, what: str = "", chunk: int = 256, progress: bool = False) -> Tensor:
    """`embed(int64 rows) -> [b, D]` over 0..count-1 in chunks: float32 [count, D] on the CPU."""
    starts = tqdm(range(0, count, chunk), desc=what, unit="batch", disable=not progress, leave=False, delay=1)
    return torch.cat([embed(torch.arange(start, min(start + chunk, count))).float().cpu() for start in starts])


def _cached(model: DualEncoder, side: str, pairs: Pairs, compute) -> Tensor:
    from safetensors.torch import load_file, save_file

    path = cache_folder() / f"features-{_key(model, side, pairs)}.safetensors"
    if path.is_file():
        return load_file(path)["features"]
    was_training = model.training
    model.eval()
    features = compute()
    model.train(was_training)
    partial = path.with_suffix(".partial")
    save_file({"features": features}, partial)
    partial.replace(path)
    return features


def _key(model: DualEncoder, side: str, pairs: Pairs) -> str:
    digest = hashlib.sha256(f"1/{side}/{model.text_pooling}/{pairs.fingerprint()}/{pairs.image_size}".encode())
    if side == "text":
        digest.update(pairs.all_tokens()[0].numpy().tobytes())
    tensors = {**model.encoder(side).state_dict(), "mean": model.mean, "std": model.std}
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
                      if tensor.ndim else str(tensor.item()).encode())
    return digest.hexdigest()[:24]
