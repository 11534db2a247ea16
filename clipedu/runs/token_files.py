"""Token norms and attention that a run keeps for its report.

They are in tokens.safetensors and tokens.json, of vision transformers that `clipedu.inference.attention` can read:
norms of all tokens of the first pictures of the retrieval set, and attention in the first one (a mean over heads).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clipedu.inference.attention import Tokens, attention_maps, name_tokens, reads_attention, token_norms
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import atomic_write, read_json, write_json

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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not (folder / "tokens.safetensors").is_file():
        return None
    try:
        words, tensors = read_json(folder / "tokens.json"), load_file(folder / "tokens.safetensors")
        tokens = Tokens(tuple(words["names"]), words["extra"], tuple(words["grid"]), tensors.pop("windows", None))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ClipeduError(f"the tokens kept in {folder} cannot be read: {error}. Score the run again") from None
    return tokens, tensors
