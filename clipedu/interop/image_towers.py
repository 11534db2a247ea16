"""Image towers of open_clip and transformers: pixels to features.

Each runs its library's own module, which it holds under the name it has there, so parameters keep their names:
`image_encoder.visual.transformer.resblocks.0.attn.in_proj_weight`. Where the tower is a vision transformer its tokens can be read
(`clipedu.inference.token_reader.ReadsTokens`). Towers of timm need nothing of this: they are image encoders as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class _Tower(nn.Module):
    """A vision transformer whose blocks are watched by hooks."""

    def grid_size(self) -> tuple[int, int]:
        raise TypeError(f"{type(self).__name__} does not say how many patches it has")

    def blocks(self) -> list[nn.Module]:
        raise TypeError(f"{type(self).__name__} does not say which its blocks are")

    def run_hooked(self, pixels: Tensor, hooks: Iterable[RemovableHandle]) -> None:
        """Run it on pixels with hooks that are in place, and remove them."""
        with ExitStack() as stack:
            for hook in hooks:
                stack.enter_context(hook)
            self(pixels)

    def token_states(self, pixels: Tensor) -> list[Tensor]:
        """Return the tokens after each block, [B, L, width] each.

        They come from normalised pixels [B, 3, H, W].
        """
        kept: list[Tensor] = []

        def keep(module: nn.Module, args: Any, output: Any) -> None:
            kept.append(output[0] if isinstance(output, tuple) else output)

        self.run_hooked(pixels, [block.register_forward_hook(keep) for block in self.blocks()])
        return kept


class OpenClipImage(_Tower):
    """A vision transformer of open_clip's own.

    Args:
        visual: its `VisionTransformer`; what it returns besides the features is dropped.
    """

    def __init__(self, visual: Any):
        super().__init__()
        self.visual = visual

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute features [B, F] from normalised pixels [B, 3, H, W]."""
        out = self.visual(pixels)
        return out[0] if isinstance(out, tuple) else out

    def grid_size(self) -> tuple[int, int]:
        """Return the rows and columns of patches."""
        return self.visual.grid_size

    def blocks(self) -> list[nn.Module]:
        """Return the transformer's blocks."""
        return list(self.visual.transformer.resblocks)

    def attention_weights(self, pixels: Tensor) -> list[Tensor]:
        """Return the attention weights of each block, [B, heads, L, L] each.

        They come from normalised pixels [B, 3, H, W]. Empty for blocks with an attention of another kind than torch's.
        """
        layers: list[Any] = [block.attn for block in self.blocks()]  # type: ignore[misc]
        if not all(isinstance(layer, nn.MultiheadAttention) for layer in layers):
            return []
        kept: list[Tensor] = []

        def ask(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return args, kwargs | {"need_weights": True, "average_attn_weights": False}

        def keep(module: nn.Module, args: Any, output: Any) -> None:
            kept.append(output[1])

        asking = [layer.register_forward_pre_hook(ask, with_kwargs=True) for layer in layers]
        self.run_hooked(pixels, [*asking, *(layer.register_forward_hook(keep) for layer in layers)])
        return kept


class TransformersImage(_Tower):
    """A vision model of transformers that pools by itself.

    Args:
        vision_model: with `.pooler_output`.
        image_size: height and width of its images.
        resampled: that is not the size which its positions are made for, so they are resampled, where it has positions.
    """

    def __init__(self, vision_model: Any, image_size: int, *, resampled: bool = False):
        super().__init__()
        self.vision_model, self.image_size = vision_model, image_size
        can = "interpolate_pos_encoding" in signature(vision_model.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if resampled and can else {}

    def inputs(self, pixels: Tensor) -> dict[str, Any]:
        """Return what the vision model is called with."""
        return {"pixel_values": pixels} | self.options

    def forward(self, pixels: Tensor) -> Tensor:
        """Compute features [B, F] from normalised pixels [B, 3, H, W]."""
        read = self.vision_model(**self.inputs(pixels))
        pooled = getattr(read, "pooler_output", None)
        return read.last_hidden_state if pooled is None else pooled

    def grid_size(self) -> tuple[int, int]:
        """Return the rows and columns of patches; (0, 0) where there are none."""
        patch = getattr(self.vision_model.config, "patch_size", None)
        side = self.image_size // patch if isinstance(patch, int) else 0
        return side, side

    def blocks(self) -> list[nn.Module]:
        """Return the transformer's blocks: the longest list of modules."""
        lists = [module for module in self.vision_model.modules() if isinstance(module, nn.ModuleList)]
        return list(max(lists, key=len, default=[]))

    def attention_weights(self, pixels: Tensor) -> list[Tensor]:
        """Return the attention weights of each block, [B, heads, L, L] each.

        They come from normalised pixels [B, 3, H, W].
        """
        kept: dict[int, Tensor] = {}

        def keep(number: int, module: nn.Module, args: Any, output: Any) -> None:
            weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
            if isinstance(weights, Tensor) and weights.ndim == 4:
                kept[number] = weights

        hooks = [
            module.register_forward_hook(partial(keep, number))
            for number, block in enumerate(self.blocks())
            for module in block.modules()
        ]
        with _eager(self.vision_model):
            self.run_hooked(pixels, hooks)
        return [kept[number] for number in sorted(kept)]


class PatchesImage(TransformersImage):
    """The vision model of SigLIP 2 for any shape (NaFlex).

    It reads a list of patches; of square images that is a grid of them.
    """

    def inputs(self, pixels: Tensor) -> dict[str, Any]:
        """Cut pixels [B, 3, H, W] into patches, [B, N, P * P * 3].

        Rows come first, and the channels of a pixel are together.
        """
        size = self.vision_model.config.patch_size
        batch, _, height, width = pixels.shape
        rows, columns = height // size, width // size
        cut = pixels.reshape(batch, 3, rows, size, columns, size).permute(0, 2, 4, 3, 5, 1)
        mask = "pixel_attention_mask"  # older versions of transformers have the other name
        return {
            "pixel_values": cut.reshape(batch, rows * columns, -1),
            mask if mask in signature(self.vision_model.forward).parameters else "attention_mask": torch.ones(
                batch, rows * columns, dtype=torch.long, device=pixels.device
            ),
            "spatial_shapes": torch.tensor([[rows, columns]] * batch, device=pixels.device),
        }


@contextmanager
def _eager(model: nn.Module) -> Iterator[None]:
    """Let a model of transformers compute its attention weights as a whole."""
    found: list[Any] = [getattr(module, "config", None) for module in model.modules()]
    configs = {id(config): config for config in found if hasattr(config, "_attn_implementation")}.values()
    before = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation = "eager"
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name
