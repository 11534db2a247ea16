"""Unit steps in ten norms: against a table, against their definition as a maximum, and by laws."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from clipedu.optim.lmo import NORMS, POLAR_METHODS, auto_norm, lmo, polar, row_norm
from clipedu.utils.errors import ClipeduError

A = torch.tensor([[1, 2, -1], [0.5, -1, 3]], dtype=torch.float64)
POLAR_A = torch.tensor(
    [[0.5462082932, 0.8326282694, -0.0915787385], [0.3091858573, -0.0987950806, 0.9458560343]], dtype=torch.float64
)
SHAPES = {
    "spectral": (4, 7),
    "spectral-conv": (5, 3, 2, 2),
    "spectral-conv-per-position": (5, 3, 2, 2),
    "patchifier": (6, 3, 4, 4),
    "sign": (4, 7),
    "row-norm": (4, 7),
    "col-norm": (4, 7),
    "embedding": (9, 4),
    "bias-rms": (11,),
}


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def values(matrix: Tensor) -> Tensor:
    return torch.linalg.svdvals(matrix)


def size_and_dual(norm: str, w: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """The norm of w and the dual norm of g, typed out from their definitions."""
    out, k2 = w.shape[0], w[0, 0].numel() if w.ndim > 2 else 1
    channels = w.shape[1] if w.ndim > 1 else 1
    if norm == "spectral":
        return values(w).max() * math.sqrt(channels / out), values(g).sum() * math.sqrt(out / channels)
    if norm == "patchifier":
        fan_in = channels * k2
        w, g = w.reshape(out, fan_in), g.reshape(out, fan_in)
        return values(w).max() * math.sqrt(fan_in / out), values(g).sum() * math.sqrt(out / fan_in)
    if norm == "spectral-conv":
        w, g = w.reshape(out, -1), g.reshape(out, -1)
        scale = k2 * math.sqrt(channels / out)
        return values(w).max() * scale, values(g).sum() / scale
    if norm == "spectral-conv-per-position":
        scale = k2 * math.sqrt(channels / out)
        places = [(i, j) for i in range(w.shape[2]) for j in range(w.shape[3])]
        largest = max(values(w[:, :, i, j]).max() for i, j in places) * scale
        return largest, sum(values(g[:, :, i, j]).sum() for i, j in places) / scale
    if norm == "sign":
        return w.abs().max() * channels, g.abs().sum() / channels
    if norm == "row-norm":
        return max(row.norm() for row in w) * math.sqrt(channels), sum(row.norm() for row in g) / math.sqrt(channels)
    if norm == "col-norm":
        return max(c.norm() for c in w.T) / math.sqrt(out), sum(c.norm() for c in g.T) * math.sqrt(out)
    if norm == "embedding":
        return max(v.norm() for v in w) / math.sqrt(channels), sum(v.norm() for v in g) * math.sqrt(channels)
    return w.pow(2).mean().sqrt(), g.norm() * math.sqrt(g.numel())  # bias-rms


def test_every_norm_is_tested():
    assert {*SHAPES, "auto"} == set(NORMS)


# --- oracles ---


def close(got: Tensor, expected, digits: int = 10) -> None:
    torch.testing.assert_close(got, torch.as_tensor(expected, dtype=got.dtype), rtol=0, atol=0.6 * 10**-digits)


def test_table_of_a_two_by_three_matrix():
    close(polar(A, "svd"), POLAR_A)
    close(lmo(A, "spectral", "svd"), POLAR_A * math.sqrt(2 / 3))
    close(lmo(A, "sign"), A.sign() / 3)
    rows = [[0.2357022604, 0.4714045208, -0.2357022604], [0.0901669635, -0.1803339269, 0.5410017808]]
    close(lmo(A, "row-norm"), rows)
    columns = [[1.2649110641, 1.2649110641, -0.4472135955], [0.632455532, -0.632455532, 1.3416407865]]
    close(lmo(A, "col-norm"), columns)
    close(lmo(A[1], "bias-rms"), [0.2705008904, -0.5410017808, 1.6230053424])


@pytest.mark.parametrize(
    ("norm", "shape", "square"),
    [
        ("spectral", (2, 3), 4 / 3),
        ("spectral", (6, 2), 2 * 6 / 2),
        ("sign", (2, 3), 2 / 3),
        ("row-norm", (4, 7), 4 / 7),
        ("col-norm", (4, 7), 28),
        ("embedding", (9, 4), 36),
        ("bias-rms", (11,), 11),
        ("patchifier", (6, 3, 4, 4), 6 * 6 / 48),
        ("spectral-conv", (5, 3, 2, 2), min(5, 12) * 5 / (3 * 4**2)),
        ("spectral-conv-per-position", (5, 3, 2, 2), 3 * 5 / (3 * 4)),
    ],
)
def test_frobenius_length_of_a_step(norm, shape, square):
    assert float(lmo(random(*shape), norm, "svd").pow(2).sum()) == pytest.approx(square, rel=1e-12)


# --- what a step is: the maximum of <G, U> over the ball ---


@pytest.mark.parametrize("norm", SHAPES)
def test_size_one_and_duality(norm):
    g = random(*SHAPES[norm])
    u = lmo(g, norm, "svd")
    size, dual = size_and_dual(norm, u, g)
    assert float(size) == pytest.approx(1, rel=1e-12)
    assert float((g * u).sum()) == pytest.approx(float(dual), rel=1e-12)  # <G, -U> = -dual: U is subtracted


@pytest.mark.parametrize("norm", SHAPES)
def test_no_other_point_of_the_ball_does_better(norm):
    g = random(*SHAPES[norm])
    best = (g * lmo(g, norm, "svd")).sum()
    for seed in range(1, 20):
        other = g / g.norm() + 0.5 * random(*SHAPES[norm], seed=seed)
        size, _ = size_and_dual(norm, other, g)
        assert (g * other / size).sum() < best


@pytest.mark.parametrize("norm", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("method", POLAR_METHODS)
def test_only_the_direction_of_a_gradient_counts(norm, dtype, method):
    g = random(*SHAPES[norm], dtype=dtype)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for factor in (3.7, 1e-30, 1e30):  # 1e-30 squared is 0 in float32
        torch.testing.assert_close(lmo(factor * g, norm, method), lmo(g, norm, method), rtol=0, atol=tolerance)
    torch.testing.assert_close(lmo(-g, norm, method), -lmo(g, norm, method), rtol=0, atol=tolerance)


@pytest.mark.parametrize("norm", ["bias-rms", "col-norm", "embedding", "row-norm"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_zero_stays_zero_however_large_the_tensor(norm, dtype):
    zero = torch.zeros(300, 400, dtype=dtype)
    assert torch.equal(lmo(zero, norm), zero)


@pytest.mark.parametrize("norm", SHAPES)
@pytest.mark.parametrize("method", POLAR_METHODS)
def test_zero_stays_zero_and_shape_and_dtype_are_kept(norm, method):
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        zero = torch.zeros(SHAPES[norm], dtype=dtype)
        assert torch.equal(lmo(zero, norm, method), zero)
        g = random(*SHAPES[norm], dtype=dtype)
        before = g.clone()
        u = lmo(g, norm, method)
        assert u.shape == g.shape and u.dtype == dtype and torch.equal(g, before)
        exact = lmo(g.double(), norm, method)
        assert float((u.double() - exact).norm() / exact.norm()) < (1e-2 if dtype == torch.bfloat16 else 1e-5)
    assert lmo(torch.zeros(0, *SHAPES[norm][1:]), norm, method).numel() == 0


# --- the polar factor ---


def test_singular_values_after_five_steps():
    """The bands of the header, on singular values spread over [0.01, 1] of the Frobenius norm; naively, value by value."""
    s = torch.logspace(-2, 0, 4000, dtype=torch.float64)
    s = s / s.norm()
    left, right = torch.linalg.qr(random(12, 12))[0], torch.linalg.qr(random(12, 12, seed=1))[0]
    bands = {"newton-schulz": (0.6818, 1.1344), "polar-express": (0.8703, 1.1236)}
    for method, (low, high) in bands.items():
        got = []
        for start in torch.linspace(0.01, 0.9, 60, dtype=torch.float64):
            rest = torch.full((11,), float(((1 - start**2) / 11) ** 0.5), dtype=torch.float64)
            spectrum = torch.cat([start.view(1), rest])
            got.append(values(left.T @ polar(left @ spectrum.diag() @ right.T, method) @ right))
        got = torch.cat(got)
        assert low - 1e-4 < got.min() < got.max() < high + 1e-4
        assert got.std() > 0.01  # near 1, not at 1


def test_the_ends_of_the_bands_are_reached():
    """A matrix with one singular value is mapped by the scalar polynomial: five steps typed out on a fine grid."""
    grid = torch.logspace(-2, 0, 200_001, dtype=torch.float64)
    muon = grid
    for _ in range(5):
        muon = 3.4445 * muon - 4.7750 * muon**3 + 2.0315 * muon**5
    assert float(muon.min()) == pytest.approx(0.6818, abs=1e-4)
    assert float(muon.max()) == pytest.approx(1.1344, abs=1e-4)
    for value, expected in zip(grid[::20_000], muon[::20_000], strict=True):
        rest = (1 - value**2).clamp_min(0).sqrt()  # a second value makes the Frobenius norm 1
        got = polar(torch.diag(torch.stack([value, rest])), "newton-schulz")[0, 0]
        assert float(got) == pytest.approx(float(expected), rel=1e-9)
    ends = [polar(torch.diag(torch.stack([v, (1 - v**2).sqrt()])), "polar-express")[0, 0] for v in grid[:-1:500]]
    assert float(min(ends)) == pytest.approx(0.8703, abs=1e-3)
    assert float(max(ends)) == pytest.approx(1.1236, abs=1e-3)


@pytest.mark.parametrize("method", POLAR_METHODS)
@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (2, 4, 6)])
def test_rotations_pass_through_the_polar_factor(method, shape):
    g = random(*shape)
    q = torch.linalg.qr(random(shape[-2], shape[-2], seed=1))[0]
    r = torch.linalg.qr(random(shape[-1], shape[-1], seed=2))[0]
    torch.testing.assert_close(polar(q @ g @ r, method), q @ polar(g, method) @ r, rtol=0, atol=1e-10)
    torch.testing.assert_close(polar(g.mT, method), polar(g, method).mT, rtol=0, atol=1e-12)


def test_polar_factor_is_the_nearest_orthogonal_matrix():
    g = random(5, 5)
    p = polar(g, "svd")
    torch.testing.assert_close(p @ p.T, torch.eye(5, dtype=g.dtype), rtol=0, atol=1e-13)
    assert torch.linalg.eigvalsh(p.T @ g).min() > 0  # the other factor of G = P H is positive
    for seed in range(5):
        q = torch.linalg.qr(random(5, 5, seed=seed))[0]
        assert (g - p).norm() < (g - q).norm()


@pytest.mark.parametrize("method", POLAR_METHODS)
def test_what_a_gradient_does_not_touch_is_not_stepped(method):
    """Rank 1: singular values that are 0 stay 0, so a step has rank 1 too."""
    g = torch.outer(random(6), random(4, seed=1))
    s = values(polar(g, method))
    assert 0.6 < s[0] < 1.2 and s[1] < 1e-9


def test_stacked_matrices_are_taken_one_by_one():
    g = random(3, 4, 4)
    for i in range(3):
        torch.testing.assert_close(lmo(g, "spectral")[i], lmo(g[i], "spectral"), rtol=0, atol=1e-12)


# --- what the norms mean for a layer ---


def test_the_spectral_step_moves_the_output_by_its_norm():
    """For an input of RMS 1 the RMS of the output moves by at most 1, and along some input by 1."""
    g = random(4, 7)
    u = lmo(g, "spectral", "svd")
    x = random(1000, 7, seed=1)
    x = x / x.pow(2).mean(-1, keepdim=True).sqrt()
    moved = (x @ u.T).pow(2).mean(-1).sqrt()
    assert moved.max() <= 1 + 1e-12
    top = torch.linalg.svd(g)[2][0] * math.sqrt(7)
    assert float((u @ top).pow(2).mean().sqrt()) == pytest.approx(1)


def test_a_convolution_of_patches_is_a_linear_layer():
    g = random(6, 3, 4, 4)
    torch.testing.assert_close(lmo(g, "patchifier").flatten(1), lmo(g.flatten(1), "spectral"), rtol=0, atol=0)
    one = random(6, 3, 1, 1)
    for norm in ("patchifier", "spectral-conv", "spectral-conv-per-position"):
        torch.testing.assert_close(lmo(one, norm)[..., 0, 0], lmo(one[..., 0, 0], "spectral"), rtol=0, atol=1e-12)


def test_a_depthwise_kernel_moves_no_output_by_more_than_one():
    u = row_norm(random(8, 1, 3, 3))
    patch = u.sign() * u.abs() / u.pow(2).mean((1, 2, 3), keepdim=True).sqrt()  # RMS 1, along the kernel
    torch.testing.assert_close((u * patch).sum((1, 2, 3)), torch.ones(8, dtype=u.dtype))


def test_an_embedding_is_columns_of_its_transpose():
    g = random(9, 4)
    g[2] = 0
    torch.testing.assert_close(lmo(g, "embedding"), lmo(g.T, "col-norm").T, rtol=0, atol=1e-15)
    assert not lmo(g, "embedding")[2].any()


@pytest.mark.parametrize(
    ("shape", "norm"),
    [
        ((), "bias-rms"),
        ((8,), "bias-rms"),
        ((8, 3), "spectral"),
        ((1, 8), "spectral"),
        ((8, 3, 5), "spectral-conv"),
        ((8, 3, 2, 2), "spectral-conv"),
        ((1, 3, 2, 2), "spectral-conv"),
        ((1, 1, 8), "embedding"),
        ((1, 50, 8), "embedding"),
    ],
)
def test_auto_goes_by_shape(shape, norm):
    assert auto_norm(shape) == norm
    g = random(*shape)
    assert torch.equal(lmo(g), lmo(g, norm)) and torch.equal(lmo(g, "auto", "svd"), lmo(g, norm, "svd"))


def test_a_scalar_steps_by_its_sign():
    assert float(lmo(torch.tensor(-3e-20))) == -1


def test_any_memory_layout_gives_the_same_step():
    g = random(6, 3, 4, 4)
    for norm in ("spectral-conv", "spectral-conv-per-position", "patchifier", "row-norm", "sign", "bias-rms"):
        other = lmo(g.to(memory_format=torch.channels_last), norm)
        torch.testing.assert_close(other, lmo(g, norm), rtol=0, atol=1e-12)


def test_errors_name_what_is_allowed():
    with pytest.raises(ClipeduError, match="unknown norm 'spektral'. Did you mean 'spectral'.*bias-rms"):
        lmo(A, "spektral")
    for wrong in (lambda: lmo(A, "sign", "qr"), lambda: polar(A, "qr")):
        with pytest.raises(ClipeduError, match="unknown polar method 'qr'.*svd"):
            wrong()
    with pytest.raises(ClipeduError, match=r"norm 'patchifier' needs a tensor of 3 or more axes, .* \[2, 3\]"):
        lmo(A, "patchifier")
    with pytest.raises(ClipeduError, match="norm 'spectral' needs"):
        lmo(A[0], "spectral")
