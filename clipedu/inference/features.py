"""Features of frozen encoders, computed once and kept on disk.

The file's name is a hash of the decoded pixels (or of the tokens), the encoder's weights, how pixels are normalised or
hidden states pooled, and how the encoder was made (two encoders can have equal weights and yet pad or pool differently:
`made_as`, or what torch prints of an encoder that was not made by name). Whatever changes the features changes the name.
The file holds a digest of the features, and is not used if they are others. Files are in the cache folder
(`CLIPEDU_CACHE`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from clipedu.data.identity import content_digest, summary
from clipedu.data.pairs import Pairs
from clipedu.data.shards.pixel_cache import cache_folder
from clipedu.models.dual_encoder import DualEncoder, evaluating
from clipedu.models.remembered import found_once
from clipedu.utils.files import atomic_write, check_writable
from clipedu.utils.finite import finite_rows

CHUNK = 256  # inputs embedded at once; of large images fewer, by the pixels in a chunk:
CHUNK_PIXELS = 1 << 22
# On a CPU large activations take fresh memory each time; a few images at once reuse it, which is several times as fast.
CHUNK_PIXELS_CPU = 1 << 18
_REMEDY = "Set CLIPEDU_CACHE to a folder that can be written and has space"


def frozen_image_features(model: DualEncoder, pairs: Pairs, *, progress: bool = True) -> Tensor:
    """Return the frozen encoder's features of every image.

    They are read from the cache, or else computed and written there.

    Args:
        model: its image encoder is run.
        pairs: N rows.
        progress: show a progress bar where it takes longer than a second.
    Returns:
        float32 [N, F] on the CPU.
    Raises:
        ClipeduError: the cache folder cannot be written.
    """

    def compute() -> Tensor:
        return embed_images_in_chunks(model.image_features, model, pairs, progress=progress)

    if not any(cache_folder().glob("features-*")):  # all pixels are read to name the file
        check_writable(cache_folder(), _REMEDY)

    def find() -> Tensor:
        data = f"{summary(pairs.picture_digests())}/{pairs.image_size}"
        return _cached(model, "image", data, len(pairs), compute)

    return found_once(model, ("image features", pairs), find)


def frozen_text_features(model: DualEncoder, pairs: Pairs, *, progress: bool = True) -> tuple[Tensor, Tensor]:
    """Return the frozen encoder's features of every caption.

    They are read from the cache, or else computed and written there.

    Args:
        model: its text encoder is run.
        pairs: N tokenized rows with T captions.
        progress: show a progress bar where it takes longer than a second.
    Returns:
        float32 [T, G] on the CPU, and the first caption of each row, int64 [N + 1].
    Raises:
        ClipeduError: the pairs are not tokenized, or the cache folder cannot be written.
    """
    return found_once(model, ("text features", pairs), lambda: _text_features(model, pairs, progress=progress))


def _text_features(model: DualEncoder, pairs: Pairs, *, progress: bool) -> tuple[Tensor, Tensor]:
    ids, mask, row = pairs.all_tokens()

    def embed(which: Tensor) -> Tensor:
        return model.text_features(ids[which].to(model.device), mask[which].to(model.device))

    def compute() -> Tensor:
        return embed_in_chunks(embed, len(ids), what=f"text features of {pairs.name}/{pairs.split}", progress=progress)

    tokens = (
        hashlib.sha256(ids.contiguous().numpy().data).hexdigest()
        + hashlib.sha256(mask.contiguous().numpy().data).hexdigest()
    )
    features = _cached(model, "text", tokens, len(ids), compute)
    return features, torch.searchsorted(row, torch.arange(len(pairs) + 1))


def embed_images_in_chunks(
    embed: Callable[[Tensor], Tensor], model: DualEncoder, pairs: Pairs, *, progress: bool = False
) -> Tensor:
    """Run a function over the images of all rows.

    Args:
        embed: pixels uint8 [b, 3, H, W] on the model's device -> [b, D].
        model: for its device.
        pairs: N rows.
        progress: show a progress bar where it takes longer than a second.
    Returns:
        float32 [N, D] on the CPU.
    """
    most = CHUNK_PIXELS_CPU if model.device.type == "cpu" else CHUNK_PIXELS
    return embed_in_chunks(
        lambda rows: embed(pairs.pixels(rows).to(model.device)),
        len(pairs),
        what=f"images of {pairs.name}/{pairs.split}",
        chunk=max(1, min(CHUNK, most // pairs.image_size**2)),
        progress=progress,
    )


@torch.no_grad()
def embed_in_chunks(
    embed: Callable[[Tensor], Tensor], count: int, *, what: str = "", chunk: int = CHUNK, progress: bool = False
) -> Tensor:
    """Run a function over 0..count-1, some at a time.

    Args:
        embed: int64 [b] -> [b, D].
        count: how many inputs there are, at least 1.
        what: label of the progress bar.
        chunk: inputs embedded at once.
        progress: show a progress bar where it takes longer than a second.
    Returns:
        float32 [count, D] on the CPU.
    """
    starts = tqdm(range(0, count, chunk), desc=what, unit="batch", disable=not progress, leave=False, delay=1)
    return torch.cat([embed(torch.arange(start, min(start + chunk, count))).float().cpu() for start in starts])


def _cached(model: DualEncoder, side: str, data: str, rows: int, compute: Callable) -> Tensor:
    with torch.no_grad(), evaluating(model):
        path = cache_folder() / f"features-{_key(model, side, data)}.safetensors"
        features = _read(path, rows)
        if features is None:
            features = _keep(path, lambda: finite_rows(compute(), f"features of {side}s", model))
    return finite_rows(features, f"features of {side}s", model)


def _key(model: DualEncoder, side: str, data: str) -> str:
    encoder = model.encoder(side)
    made_as = getattr(encoder, "made_as", repr(encoder))
    digest = hashlib.sha256(f"4/{side}/{data}/{made_as}".encode())  # 4: version of this key
    if side == "text":
        digest.update(model.text_pooling.encode())
    tensors = {**encoder.state_dict(), **({"mean": model.mean, "std": model.std} if side == "image" else {})}
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}/{tensor.dtype}/{list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:24]


def _read(path: Path, rows: int) -> Tensor | None:
    """Read the features in a file; None if it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
        features, digest = found["features"], found["digest"]
    except (OSError, SafetensorError, KeyError):
        return None
    return features if len(features) == rows and torch.equal(_digest(features), digest) else None


def _digest(features: Tensor) -> Tensor:
    """Hash features: uint8 [16]."""
    digest = content_digest(features.reshape(-1).view(torch.uint8).numpy().data)
    return torch.tensor(list(digest), dtype=torch.uint8)


def _keep(path: Path, compute: Callable[[], Tensor]) -> Tensor:
    """Compute features and write them to a file, in one step."""
    from safetensors.torch import save_file

    check_writable(path.parent, _REMEDY)  # better an error now than after an hour of computing
    features = compute()
    features = features.contiguous()
    with atomic_write(path, remedy=_REMEDY) as partial:
        save_file({"features": features, "digest": _digest(features)}, partial)
    return features
