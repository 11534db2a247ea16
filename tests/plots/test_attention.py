"""Figures of attention and norms: what is drawn is what was measured, where it belongs in the picture."""

import numpy as np
import pytest
import torch

from clipedu.evaluation.token_artifacts import artifacts
from clipedu.inference.attention import Tokens
from clipedu.models.fractal_mask import fractal_mask
from clipedu.models.fractal_mask import tokens as windows_of
from clipedu.plots import attention as ap
from clipedu.utils.errors import ClipeduError
from tests.helpers.figures import drawn, words

PATCHES = tuple(f"patch ({row}, {column})" for row in range(4) for column in range(4))
SUMMARIES = ("summary 1x1", *(f"summary 2x2 ({row}, {column})" for row in (0, 1) for column in (0, 1)))
FRACTAL = Tokens((*SUMMARIES, *PATCHES), 5, (4, 4), windows_of([1, 2, 4]))
PLAIN = Tokens(PATCHES, 0, (4, 4))
REGISTERS = Tokens(("class", "register 0", "register 1", *PATCHES), 3, (4, 4))
PIXELS = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def made_up_maps(tokens, mask=None, blocks=6, heads=2):
    """[blocks, 3, heads, L, L], rows that sum to 1."""
    length = len(tokens.names)
    scores = torch.randn(blocks, 3, heads, length, length, generator=torch.Generator().manual_seed(1))
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(-1)


def made_up_norms(tokens, scale=1.0, blocks=3):
    norms = 10 + 4 * torch.rand(blocks, 3, len(tokens.names), generator=torch.Generator().manual_seed(2))
    norms[..., : tokens.extra] = 40
    return scale * norms


def frames(ax):
    """(left, top, width) of the squares that are drawn."""
    return [(patch.get_x(), patch.get_y(), patch.get_width()) for patch in ax.patches]


def heat(ax):
    return ax.images[0].get_array()


# attention


def test_a_row_a_query_and_a_column_a_block():
    maps = made_up_maps(FRACTAL, fractal_mask(4, 2))
    queries = ["patch (2, 3)", "summary 2x2 (0, 1)"]
    figure = ap.plot_attention(maps, FRACTAL, PIXELS, image=1, queries=queries, blocks=[0, -1])
    drawn(figure)
    panels = np.reshape(figure.axes[:6], (2, 3))
    for row, query in zip(panels, queries, strict=True):
        number = FRACTAL.names.index(query)
        assert row[0].get_title() == query
        np.testing.assert_array_equal(heat(row[0]), PIXELS[1].permute(1, 2, 0))
        for ax, block in zip(row[1:], (0, 5), strict=True):
            weights = 100 * maps[block, 1].mean(0)[number]
            np.testing.assert_allclose(heat(ax).filled(0), weights[5:].reshape(4, 4), rtol=1e-5)
            told = f"{weights[:5].sum():.0f} % to extra tokens\nlargest on a patch: {weights[5:].max():.2g} %"
            assert ax.get_title().endswith(told)
            np.testing.assert_allclose(ax.images[0].get_clim(), (0, weights[5:].max()), rtol=1e-5)
    assert "block 0, mean of heads" in panels[0, 1].get_title() and "block 5, mean" in panels[0, 2].get_title()
    assert "block" not in panels[1, 1].get_title()
    assert frames(panels[0, 0]) == frames(panels[0, 2]) == [(2.5, 1.5, 1)]  # row 2, column 3
    assert frames(panels[1, 0]) == frames(panels[1, 1]) == [(1.5, -0.5, 2)]
    assert not heat(panels[0, 1]).mask.any()
    outside = np.ones((4, 4), dtype=bool)
    outside[:2, 2:] = False
    np.testing.assert_array_equal(heat(panels[1, 1]).mask, outside)
    assert panels[0, 0].get_xlabel() == "11 % to extra tokens\nif all were equal"  # 2 of 18
    assert panels[1, 0].get_xlabel().startswith("56 %")  # 5 of 9


def test_one_block_has_a_column_a_head():
    maps = made_up_maps(REGISTERS)
    figure = ap.plot_attention(maps, REGISTERS, PIXELS, queries=["register 1"], blocks=[2])
    drawn(figure)
    assert [ax.get_title().split("\n")[0] for ax in figure.axes[:3]] == [
        "register 1",
        "block 2, head 0",
        "block 2, head 1",
    ]
    for head, ax in enumerate(figure.axes[1:3]):
        np.testing.assert_allclose(heat(ax), 100 * maps[2, 0, head, 4 - 2, 3:].reshape(4, 4), rtol=1e-5)
        assert not frames(ax) and not ax.lines  # a register has no place in the picture, and there are no windows


def test_windows_are_bounded():
    figure = ap.plot_attention(made_up_maps(FRACTAL), FRACTAL, PIXELS, queries=["patch (0, 0)"], blocks=[0])
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[1].lines]
    # 2 x 2 windows of two patches; a patch's own bounds are not drawn
    assert sorted(lines) == [([0, 1], [1.5, 1.5]), ([1.5, 1.5], [0, 1])]


def test_defaults_show_each_kind_of_token_and_few_blocks():
    assert ap.default_queries(FRACTAL) == ["patch (2, 2)", "patch (2, 0)", "summary 1x1", "summary 2x2 (0, 0)"]
    assert ap.default_queries(REGISTERS) == ["patch (2, 2)", "patch (2, 0)", "class", "register 0"]
    figure = ap.plot_attention(made_up_maps(PLAIN, blocks=12), PLAIN, PIXELS)
    drawn(figure)
    titles = [ax.get_title() for ax in figure.axes[1:5]]
    assert [title.split(",")[0] for title in titles] == ["block 0", "block 4", "block 7", "block 11"]
    assert all("no extra tokens" in title for title in titles) and "if all were equal" not in words(figure)


def test_attention_errors():
    maps = made_up_maps(PLAIN)
    with pytest.raises(ClipeduError, match="no token 'register 0'. This model has: patch"):
        ap.plot_attention(maps, PLAIN, PIXELS, queries=["register 0"])
    with pytest.raises(ClipeduError, match="there is no block 6. Allowed: 0 to 5"):
        ap.plot_attention(maps, PLAIN, PIXELS, blocks=[0, 6])
    with pytest.raises(ClipeduError, match="there is no image 3. Allowed: 0 to 2"):
        ap.plot_attention(maps, PLAIN, PIXELS, image=3)
    with pytest.raises(ClipeduError, match=r"nothing to show.*blocks=\[\]"):
        ap.plot_attention(maps, PLAIN, PIXELS, blocks=[])


# norms


def test_norm_maps_stand_beside_the_pictures_on_one_scale():
    plain, registers = made_up_norms(PLAIN), made_up_norms(REGISTERS, scale=7.0)
    plain[-1, 1, 6] = 120  # row 1, column 2: far out
    norms = {"plain": (plain, PLAIN), "registers $4": (registers, REGISTERS)}
    figure = ap.plot_token_norms(norms, PIXELS, pictures=2)
    drawn(figure)
    panels = np.reshape(figure.axes[:9], (3, 3))
    for number in range(2):
        np.testing.assert_array_equal(heat(panels[number, 0]), PIXELS[number].permute(1, 2, 0))
        for ax, (values, tokens) in zip(panels[number, 1:], norms.values(), strict=True):
            patches = values[-1, :, tokens.extra :]
            expected = (patches[number] / np.median(patches)).reshape(4, 4)
            np.testing.assert_allclose(heat(ax), expected, rtol=0.02)  # torch's median is the lower of two
            assert ax.images[0].get_clim() == panels[0, 1].images[0].get_clim()
    assert frames(panels[1, 1]) == [(1.5, 0.5, 1)] and not frames(panels[0, 1]) and not frames(panels[1, 2])
    assert panels[0, 1].images[0].get_clim()[1] > 9
    assert [ax.get_title() for ax in panels[0]] == ["", "plain\nafter block 2", r"registers \$4" + "\nafter block 2"]


def test_norms_by_block_are_the_measured_ones():
    plain, registers = made_up_norms(PLAIN), made_up_norms(REGISTERS, scale=7.0)
    figure = ap.plot_token_norms({"plain": (plain, PLAIN), "reg": (registers, REGISTERS)}, PIXELS, block=0)
    drawn(figure)
    assert figure.axes[1].get_title() == "plain\nafter block 0"
    np.testing.assert_allclose(heat(figure.axes[1]), (plain[0, 0] / plain[0].median()).reshape(4, 4), rtol=1e-5)
    legend, first, second = figure.axes[9:12]
    assert first.get_ylim() == second.get_ylim() and first.get_ylabel() == "L2 norm of a token"
    curves = {line.get_label(): line.get_ydata() for line in second.lines}
    table = artifacts(registers, REGISTERS)
    np.testing.assert_allclose(curves["patches, median"], table["median"])
    np.testing.assert_allclose(curves["3 medians:\noutliers above"], 3 * table["median"])
    np.testing.assert_allclose(curves["patches, largest"], registers[..., 3:].amax((1, 2)))
    np.testing.assert_allclose(curves["extra, median"], 280)
    assert "extra, median" not in [line.get_label() for line in first.lines]
    band = second.collections[0].get_paths()[0].vertices[:, 1]
    patches = registers[..., 3:].flatten(1).numpy()
    for share in (0.05, 0.95):
        for value in np.quantile(patches, share, axis=1):
            assert min(abs(band - value)) < 1e-3
    assert f"largest: {table['largest'].iloc[-1]:.2f} x median" in second.get_title()
    assert "outliers at the end: 0.0 %" in second.get_title()
    named = [text.get_text() for text in legend.get_legend().get_texts()]
    assert set(named) == {*curves, "patches, 5 to 95 %"} and len(named) == 5


def test_a_model_without_artifacts_is_of_one_colour():
    """The scale goes to an outlier's norm, however small the differences are."""
    figure = ap.plot_token_norms({"plain": (made_up_norms(PLAIN), PLAIN)}, PIXELS)
    assert figure.axes[1].images[0].get_clim() == (0, 3)


def test_norm_errors():
    with pytest.raises(ClipeduError, match="no token norms to plot"):
        ap.plot_token_norms({}, PIXELS)
    with pytest.raises(ClipeduError, match="there is no block 3. Allowed: 0 to 2"):
        ap.plot_token_norms({"plain": (made_up_norms(PLAIN), PLAIN)}, PIXELS, block=3)
    with pytest.raises(ClipeduError, match="norms of 3 images don't go with the pixels of 2"):
        ap.plot_token_norms({"plain": (made_up_norms(PLAIN), PLAIN)}, PIXELS[:2])
