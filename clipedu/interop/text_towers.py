"""Text towers of open_clip and transformers: token ids to features.

As with image towers, the library's own module runs inside under its own name, and pools as it does:

    CLIP             the state of the end token, under a causal mask: padding behind it changes nothing
    SigLIP           the last of 64 places, whatever stands there: texts are padded to all of them, and padding is not masked
    dual encoder     what its text model calls `pooler_output`, under the mask
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class OpenClipText(nn.Module):
    """A text tower of open_clip, which reads ids alone.

    Args:
        text: its `TextTransformer` or `HFTextEncoder`, or a `CLIP` without image tower and text projection; what it returns besides
            the features is dropped.
    """

    def __init__(self, text: Any):
        super().__init__()
        self.text = text

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Compute features [B, G] from token ids [B, L]; the mask is not used."""
        out = getattr(self.text, "encode_text", self.text)(input_ids)
        return out[0] if isinstance(out, tuple) else out


class TransformersText(nn.Module):
    """A text model of transformers that pools by itself.

    Args:
        text_model: with `.pooler_output`.
        masked: give it the mask.
    """

    def __init__(self, text_model: Any, *, masked: bool):
        super().__init__()
        self.text_model, self.masked = text_model, masked

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Compute features [B, G] from token ids [B, L] and mask [B, L]."""
        read = self.text_model(input_ids=input_ids, attention_mask=attention_mask if self.masked else None)
        pooled = getattr(read, "pooler_output", None)
        return read.last_hidden_state if pooled is None else pooled
