"""What tokens cost: multiply-adds of a transformer's block.

A block of N tokens of width d takes N d^2 (4 + 2 ratio) multiply-adds in its linear layers (Q, K, V and the output; the two of the
MLP) and 2 N^2 d in its attention (scores, and the mean they weight). With the usual ratio of 4: 12 N d^2 + 2 N^2 d.
"""

from __future__ import annotations


def block_cost(tokens: int, dim: int, mlp_ratio: float = 4.0) -> float:
    """Return the multiply-adds of one block without softmax and norms.

    They are those of one image. A mask changes nothing: dense kernels compute all scores.

    Args:
        tokens: N, of the sequence.
        dim: d, their width.
        mlp_ratio: hidden width of the MLP over d.
    """
    return tokens * dim**2 * (4 + 2 * mlp_ratio) + 2 * tokens**2 * dim


def matched_mlp_ratio(patches: int, extra: int, dim: int, mlp_ratio: float = 4.0) -> float:
    """Return the MLP ratio that makes up for extra tokens.

    With the ratio, patches alone cost what patches and extra tokens cost with `mlp_ratio`.

    Args:
        patches: tokens of the model that gets the wider MLP.
        extra: tokens that the other model has besides.
        dim: d, their width.
        mlp_ratio: of the other model.
    """
    more = block_cost(patches + extra, dim, mlp_ratio) - block_cost(patches, dim, mlp_ratio)
    return mlp_ratio + more / (2 * patches * dim**2)
