"""Token norms and attention that a run keeps for its report.

They are in tokens.safetensors and tokens.json, of vision transformers that `clipedu.inference.attention` can read:
norms of all tokens of the first pictures of the retrieval set, and attention in the first one (a mean over heads).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clipedu.inference.attention import Tokens, attention_maps, name_tokens, reads_attention, token_norms
from clipedu.runs.schema import AGAIN, TOKENS
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import atomic_write, read_json, write_json
from clipedu.utils.tensor_files import kind_of, read_tensors, size_of

if TYPE_CHECKING:
    from clipedu.data.pairs import Pairs
    from clipedu.models.dual_encoder import DualEncoder

PICTURES = 16


def keep_tokens(folder: Path, model: DualEncoder, pairs: Pairs) -> None:
    """Write token norms and attention into a run's folder.

    Nothing is written where the image encoder has no attention that can be read.

    Args:
        folder: of the run.
        model: the trained model.
        pairs: the retrieval set; its first images are shown.
    Raises:
        ClipeduError: a file cannot be written.
    """
    from safetensors.torch import save_file

    if not reads_attention(model, pairs.image_size):
        return
    pixels, tokens = pairs.pixels(torch.arange(min(PICTURES, len(pairs)))), name_tokens(model)
    maps = attention_maps(model, pixels[:1]).mean(2, keepdim=True)  # [blocks, 1, 1, L, L]
    tensors = {"pixels": pixels, "norms": token_norms(model, pixels), "maps": maps.half()}
    if tokens.windows is not None:
        tensors["windows"] = tokens.windows
    write_json(folder / "tokens.json", {"names": tokens.names, "extra": tokens.extra, "grid": tokens.grid})
    with atomic_write(folder / "tokens.safetensors") as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)


def kept_tokens(folder: Path) -> tuple[Tokens, dict[str, Tensor]] | None:
    """Read the token norms and attention that a run keeps.

    Returns:
        the tokens, and "pixels" uint8 [B, 3, H, W], "norms" [blocks, B, L] and "maps" [blocks, 1, 1, L, L]; None if
        there are none.
    Raises:
        ClipeduError: a file is damaged.
    """
    if not os.path.lexists(path := folder / "tokens.safetensors"):
        return None
    again = AGAIN.format(folder=folder)
    try:
        tensors = read_tensors(path)
    except ClipeduError as error:
        raise ClipeduError(f"{error}. {again}") from None
    words = read_json(folder / "tokens.json", TOKENS, again)
    if not words:
        raise ClipeduError(f"{folder / 'tokens.json'} cannot be read: no such file. {again}")
    names, extra, (rows, columns) = words["names"], words["extra"], words["grid"]
    if len(names) != extra + rows * columns:
        parts = f"{extra} extra tokens and {rows} x {columns} patches"
        raise ClipeduError(f"{folder / 'tokens.json'} cannot be read: {len(names)} names are not {parts}. {again}")
    if fault := _misfit(tensors, len(names)):
        raise ClipeduError(f"{path} cannot be used with tokens.json: {fault}. {again}")
    return Tokens(tuple(names), extra, (rows, columns), tensors.pop("windows", None)), tensors


def _misfit(tensors: Mapping[str, Tensor], length: int) -> str | None:
    """Return what is wrong with the kept tensors of L tokens, if anything is."""
    if missing := [name for name in ("pixels", "norms", "maps") if name not in tensors]:
        return f"the tensor {missing[0]!r} is missing"
    blocks, images = [*tensors["norms"].shape, 0, 0][:2]
    side = tensors["pixels"].shape[-1] if tensors["pixels"].ndim else 0
    wanted = {
        "pixels": ("uint8", [images, 3, side, side]),
        "norms": ("float32", [blocks, images, length]),
        "maps": ("float16", [blocks, 1, 1, length, length]),
        "windows": ("int64", [length, 3]),
    }
    for name, (kind, size) in wanted.items():
        if name in tensors:
            found = tensors[name]
            if kind_of(found) != kind or list(found.shape) != size or not found.numel():
                return f"the tensor {name!r} is {kind_of(found)} {size_of(found)}, expected {kind} {size}"
            if not found.isfinite().all():
                return f"the tensor {name!r} is not finite"
    return None
