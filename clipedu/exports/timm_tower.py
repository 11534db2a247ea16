"""An image encoder as timm makes it again: a name and arguments.

timm keeps the arguments that a model was made with. The vision transformers of `clipedu.models.vit` have names that timm alone does
not know; they are timm's own classes, so a name of timm with other arguments makes them, all but the attention mask.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from clipedu.models.vit import FIXED, MaskedEva, MaskedViT, build_vit
from clipedu.utils.errors import ClipeduError, quoted

VIT, EVA = "vit_tiny_patch16_224", "eva_giant_patch14_224"  # names of timm whose every size can be given


@dataclass(frozen=True)
class TimmTower:
    """How timm makes an image encoder again.

    Attributes:
        architecture: a name of timm.
        args: arguments of `timm.create_model`, as JSON can hold them.
        mask: of the attention, which is passed to `forward_features`; None for none.
    """

    architecture: str
    args: dict[str, Any]
    mask: Tensor | None = None

    def build(self, **changes: Any) -> Any:
        """Make the encoder with random weights, in evaluation mode.

        Args:
            changes: to its arguments.
        """
        import timm

        return timm.create_model(self.architecture, pretrained=False, **(self.args | changes)).eval()


def timm_tower(encoder: nn.Module) -> TimmTower | None:
    """Return how timm makes an image encoder again.

    None: it is none of timm's.

    Args:
        encoder: pixels -> features.
    Raises:
        ClipeduError: it was made with an argument that JSON cannot hold.
    """
    args: Any = getattr(encoder, "_model_args", None)
    record: Any = getattr(encoder, "pretrained_cfg", None)
    if args is None or record is None:
        return None
    name = record["architecture"]
    try:
        args = json.loads(json.dumps({key: value for key, value in args.items() if value is not None}))
    except (TypeError, ValueError):
        raise ClipeduError(
            f"the image encoder {name!r} cannot be exported: image_options={quoted(args)} are not plain numbers, words and lists"
        ) from None
    if isinstance(encoder, (MaskedViT, MaskedEva)):
        return _vision_transformer(encoder, args)
    if getattr(encoder, "num_classes", None) == 0:  # its classifier may have been taken off later
        args["num_classes"] = 0
    return TimmTower(name, args)


def _vision_transformer(encoder: Any, args: dict[str, Any]) -> TimmTower:
    """Return the arguments of timm's class for a vision transformer of ours."""
    of_ours: Callable[..., Any] = build_vit
    own = {*inspect.signature(of_ours).parameters, *FIXED, "num_classes"}
    shape = {
        "img_size": args["img_size"],
        "patch_size": args["patch_size"],
        "embed_dim": encoder.embed_dim,
        "depth": len(encoder.blocks),
        "num_heads": encoder.blocks[0].attn.num_heads,
        "mlp_ratio": encoder.blocks[0].mlp.fc1.out_features / encoder.embed_dim,
        "class_token": False,
        "global_pool": "avg",
        "num_classes": 0,
    }
    others = {key: value for key, value in args.items() if key not in own}
    tokens = encoder.num_prefix_tokens
    if isinstance(encoder, MaskedEva):
        rotary = {"use_rot_pos_emb": True, "use_abs_pos_emb": False, "attn_type": "rope"}
        return TimmTower(
            EVA, shape | rotary | {"num_reg_tokens": tokens, "use_fc_norm": False} | others, encoder.attn_mask
        )
    added = "none" if encoder.pos_embed is None else "learn"
    plain = {"pos_embed": added, "reg_tokens": tokens, "no_embed_class": True, "fc_norm": False}
    return TimmTower(VIT, shape | plain | others, encoder.attn_mask)
