r"""The steps of Scion: updates of size 1 in a norm for each layer.

Of all updates of size 1 it takes the one along which the loss falls fastest (Pethick et al., arXiv:2502.07529).

Gradient descent steps along G, whose size means nothing. Scion first chooses how the size of an *update* is measured, a
norm for every kind of layer, and then takes the update of size 1 that has the largest inner product with G:

$$ U(G) = \arg\max_{\|U\| \le 1} \langle G, U \rangle, \qquad  \langle G, U(G) \rangle = \|G\|_* \text{, the dual norm.} $$

It is to be *subtracted*. A linear minimization oracle (LMO) is, strictly, -U; Scion's code calls U the "lmo", and so does
this file. Three things follow for every norm here: U has size 1 in its own norm (0 for G = 0), U(k G) = U(G) for k > 0,
and only the direction of a gradient counts. So neither clipping nor the scale of a loss changes a step of Scion.

The norm is meant to be the layer's operator norm: how much a change of the weight can change the output, in root mean
squares (RMS), for inputs of RMS 1. W is [out, in], as torch stores it; n is its number of entries.

    name                        U(G)                                    the norm of W                      ||U||_F^2
    spectral                    sqrt(out/in) polar(G)                   sqrt(in/out) sigma_max(W)          min(out,in) out/in
    spectral-conv               sqrt(out/in)/k^2 polar([out, in k^2])   k^2 sqrt(in/out) sigma_max(W)      see its function
    spectral-conv-per-position  the same, a matrix for each position    its maximum over positions         see its function
    patchifier                  spectral on [out, in k^2]               as spectral                        as spectral
    sign                        sign(G) / in                            in max |W_ij|                      out/in
    row-norm                    each row to length 1/sqrt(in)           sqrt(in) max length of a row       out/in
    col-norm                    each column to RMS 1                    max RMS of a column                out in
    embedding                   each vector (last axis) to RMS 1        max RMS of a vector                n
    bias-rms                    G / RMS(G)                              RMS(W)                             n
    auto                        one of these, by shape

polar(G) = U V^T, if G = U S V^T is the singular value decomposition: G with all its singular values made 1. Three ways:
"svd" is exact and slow; "newton-schulz" and "polar-express" are five steps of X <- a X + b X X^T X + c (X X^T)^2 X, matrix
products alone. They leave singular values near 1, not at 1: those that are at least 0.01 of the Frobenius norm go into
[0.682, 1.134] and [0.870, 1.124].

There is no epsilon: the largest entry is divided out first, so U(k G) = U(G) holds to rounding for any k that floats can
hold. (Scion's code adds 1e-8 to each RMS, and so shrinks the steps of gradients that small.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clipedu.utils.errors import ClipeduError, unknown_name
from clipedu.utils.registry import Registry

_NEWTON_SCHULZ = [(3.4445, -4.7750, 2.0315)] * 5  # Jordan et al. 2024 (Muon): steep at 0, never settles at 1
_POLAR_EXPRESS = [  # Amsel et al. 2025 (arXiv:2505.16932), Algorithm 1: the best five steps for values in [0.001, 1]
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
]
_SAFETY = 1.01  # their factor: treats every value as this much smaller, so that rounding cannot push one out of range
_STEPS = {
    "polar-express": [(a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5) for a, b, c in _POLAR_EXPRESS],
    "newton-schulz": _NEWTON_SCHULZ,
}
POLAR_METHODS = (*_STEPS, "svd")


def polar(matrix: Tensor, method: str = "polar-express") -> Tensor:
    """Return the polar factor U V^T of each matrix [..., m, n] = U S V^T.

    It is the nearest (semi-)orthogonal matrix.

    Singular values that are 0 stay 0, so polar(0) = 0. bfloat16 and float16 are computed in float32.

    Args:
        method: one of `POLAR_METHODS`; see the header for what each leaves of the singular values.
    Raises:
        ClipeduError: unknown method.
    """
    if method not in POLAR_METHODS:
        raise unknown_name("polar method", method, POLAR_METHODS)
    x = _by_largest(matrix.to(torch.promote_types(matrix.dtype, torch.float32)), dim=(-2, -1))
    if method == "svd":
        u, s, vh = torch.linalg.svd(x, full_matrices=False)
        nonzero = s > s[..., :1] * max(x.shape[-2:]) * torch.finfo(s.dtype).eps  # the usual numerical rank
        return ((u * nonzero.unsqueeze(-2)) @ vh).to(matrix.dtype)
    x = _to_length(x, 1.0, dim=(-2, -1))
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x  # X X^T is then the smaller product
    for a, b, c in _STEPS[method]:
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrix.dtype)


def spectral(g: Tensor, polar_method: str = "polar-express") -> Tensor:
    """Return sqrt(out/in) polar(G) for G [..., out, in].

    With leading axes (heads stacked as [3, d, d]) it is computed one matrix at a time.
    """
    return math.sqrt(g.shape[-2] / g.shape[-1]) * polar(g, polar_method)


def spectral_conv(g: Tensor, polar_method: str = "polar-express") -> Tensor:
    """Return sqrt(out/in)/k^2 polar(G as [out, in k^2]).

    It is for the kernel G [out, in, k, k] of a convolution, as in Scion's own code.

    k^2 stands for the number of kernel positions, whatever their shape. ||U||_F^2 = min(out, in k^2) out / (in k^4).
    """
    out, channels, positions = g.shape[0], g.shape[1], g[0, 0].numel()
    return math.sqrt(out / channels) / positions * polar(g.flatten(1), polar_method).view_as(g)


def spectral_conv_per_position(g: Tensor, polar_method: str = "polar-express") -> Tensor:
    """Return sqrt(out/in)/k^2 polar(G[:, :, i, j]) at each position.

    A convolution is a sum of k^2 linear maps.

    ScionC's code for vision transformers computes it like this. ||U||_F^2 = min(out, in) out / (in k^2).
    """
    maps = g.flatten(2).movedim(-1, 0)  # [k^2, out, in]
    return (spectral(maps, polar_method) / len(maps)).movedim(0, -1).reshape(g.shape)


def patchifier(g: Tensor, polar_method: str = "polar-express") -> Tensor:
    """Apply `spectral` to G [out, in, k, k] as [out, in k^2].

    A convolution whose stride is its kernel is a linear map of patches.
    """
    return spectral(g.flatten(1), polar_method).view_as(g)


def sign(g: Tensor) -> Tensor:
    """Return sign(G) / in; `in` is the product of all axes but the first."""
    return g.sign() / max(1, math.prod(g.shape[1:]))


def row_norm(g: Tensor) -> Tensor:
    """Scale each row of G [out, ...] to length 1/sqrt(in).

    `in` as in `sign`: no output moves by more than 1.
    """
    return _to_length(g.flatten(1), 1 / math.sqrt(g[0].numel()), dim=-1).view_as(g)


def col_norm(g: Tensor) -> Tensor:
    """Scale each column of G [out, in] to RMS 1, length sqrt(out).

    It is right where the input is one-hot.
    """
    return _to_length(g, math.sqrt(g.shape[-2]), dim=-2)


def embedding(g: Tensor) -> Tensor:
    """Apply `col_norm` to a table [..., rows, dim] as torch stores it.

    Each row gets RMS 1. A row without gradient stays 0.

    A row whose buffer has faded to almost nothing still gets a step of full size: rare tokens move on for long.
    """
    return _to_length(g, math.sqrt(g.shape[-1]), dim=-1)


def bias_rms(g: Tensor) -> Tensor:
    """Return G / RMS(G) over all entries of G, of any shape.

    Of a scalar it is the sign. (Scion's code takes the RMS over the first axis only.)
    """
    return _to_length(g.reshape(-1), math.sqrt(g.numel()), dim=-1).view_as(g)


def auto(g: Tensor, polar_method: str = "polar-express") -> Tensor:
    """Return the step of the norm that `auto_norm` finds for the shape of G."""
    return lmo(g, auto_norm(g.shape), polar_method)


def auto_norm(shape: torch.Size | tuple[int, ...]) -> str:
    """Return the norm of a shape, by Scion's rule.

    It is bias-rms for 0 or 1 axes, spectral for 2, spectral-conv for 3 or more.

    One exception of ours: [1, n, d], as timm stores class tokens and position tables, is "embedding". By shape a token
    table [vocabulary, d] is a linear layer, and a patch embedding a convolution: `scion_groups` distinguishes them.
    """
    if len(shape) < 2:
        return "bias-rms"
    if len(shape) == 2:
        return "spectral"
    return "embedding" if len(shape) == 3 and shape[0] == 1 else "spectral-conv"


def lmo(g: Tensor, norm: str = "auto", polar_method: str = "polar-express") -> Tensor:
    """Return U(G) in a norm, to be subtracted from the weight.

    It has the shape and dtype of G.

    Args:
        g: the gradient or its average, of a shape that the norm is made for.
        norm: one of `NORMS`.
        polar_method: one of `POLAR_METHODS`, for norms with singular values.
    Raises:
        ClipeduError: unknown norm or polar method, or a shape that the norm is not made for.
    """
    check(g.shape, norm, polar_method)
    if g.numel() == 0:
        return g.clone()
    step = NORMS[norm].build
    return step(g, polar_method) if norm in _POLAR_NORMS else step(g)


def check(shape: torch.Size | tuple[int, ...], norm: str, polar_method: str) -> None:
    """Refuse an unknown name, or a shape with fewer axes than the norm needs.

    Args:
        shape: of the weight.
        norm: one of `NORMS`.
        polar_method: one of `POLAR_METHODS`.
    Raises:
        ClipeduError: either of these.
    """
    if polar_method not in POLAR_METHODS:
        raise unknown_name("polar method", polar_method, POLAR_METHODS)
    needed = NORMS[norm].defaults["axes"]
    if len(shape) < needed:
        raise ClipeduError(
            f"norm {norm!r} needs a tensor of {needed} or more axes, and this one is {list(shape)}: take 'auto'"
        )


def _by_largest(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Divide x by its largest entry along `dim`; 0 stays 0.

    No square then over- or underflows.
    """
    return x / x.abs().amax(dim, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)


def _to_length(g: Tensor, length: float, dim: int | tuple[int, ...]) -> Tensor:
    """Scale g along `dim` to a Euclidean length; 0 stays 0.

    It is computed in float32 at least.
    """
    x = _by_largest(g.to(torch.promote_types(g.dtype, torch.float32)), dim)
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    return (x / norm * length).to(g.dtype)  # in this order: length / norm overflows for x = 0


NORMS = Registry("norm")
for _name, _step, _axes, _text in [
    ("auto", auto, 0, "by shape: bias-rms, spectral or spectral-conv"),
    ("spectral", spectral, 2, "linear layers: all singular values sqrt(out/in)"),
    ("spectral-conv", spectral_conv, 3, "convolutions: the kernel as one matrix [out, in k^2]"),
    ("spectral-conv-per-position", spectral_conv_per_position, 3, "convolutions: a matrix for each kernel position"),
    ("patchifier", patchifier, 3, "convolutions with stride = kernel: a linear layer on patches"),
    ("sign", sign, 0, "sign / in: output layers over many classes"),
    ("row-norm", row_norm, 2, "each row to length 1/sqrt(in): output layers, depthwise convolutions"),
    ("col-norm", col_norm, 2, "each column to RMS 1: layers with one-hot inputs"),
    ("embedding", embedding, 1, "token and position tables: each vector to RMS 1"),
    ("bias-rms", bias_rms, 0, "biases, gains and scalars: RMS 1"),
]:
    NORMS.add(_name, _step, _text, paper="arXiv:2502.07529", defaults={"axes": _axes})
_POLAR_NORMS = ("auto", "spectral", "spectral-conv", "spectral-conv-per-position", "patchifier")
