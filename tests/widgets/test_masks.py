"""The mask's lab, without a browser: what a choice does, what it says, and the script that repeats the view."""

import html

import pytest
import torch

from clipedu.models.fractal_mask import fractal_mask
from clipedu.utils.errors import ClipeduError

pytest.importorskip("ipywidgets", reason="widgets need: pip install ipywidgets")

from clipedu.widgets import masks as mask_lab
from clipedu.widgets.masks import MaskLab, in_words


@pytest.fixture
def sketched(monkeypatch):
    """Pictures are only what they are of."""
    monkeypatch.setattr(mask_lab, "plot_mask", lambda *args, **options: f"mask {args} {options}".encode())
    monkeypatch.setattr(mask_lab, "plot_who_sees", lambda *args, **options: f"sees {args} {options}".encode())
    monkeypatch.setattr(mask_lab, "to_png", lambda figure: figure)


def place(lab):
    return lab.level.value, lab.row.value, lab.column.value


def said(lab):
    return html.unescape(lab.status.value + lab.about.value)


def test_it_opens_on_a_mask_with_everything_shown():
    lab = MaskLab()
    for picture in (lab.seen, lab.picture):
        assert bytes(picture.value).startswith(b"\x89PNG")
    assert torch.equal(lab.mask, fractal_mask(4, 2)) and place(lab) == ("patches", 1, 2) and lab.token == 5 + 6
    assert "345 of 441 pairs may attend, 78.2%" in said(lab) and "#D55E00" not in lab.status.value
    assert html.escape(lab.script) in lab.line.value
    before = bytes(lab.seen.value), bytes(lab.picture.value)
    lab.row.value = 3
    assert bytes(lab.seen.value) != before[0] and bytes(lab.picture.value) != before[1]


def test_every_control_draws_anew(sketched):
    lab = MaskLab()
    lab.grid.value = 16
    for control, value in {"base": 4, "level": "4 x 4", "row": 0, "column": 3, "blocks": 2}.items():
        before = bytes(lab.seen.value), bytes(lab.picture.value), lab.script
        getattr(lab, control).value = value
        after = bytes(lab.seen.value), bytes(lab.picture.value), lab.script
        assert all(old != new for old, new in zip(before, after, strict=True)), control
    assert bytes(lab.seen.value) == b"sees (16, 4, 4) {'blocks': 2}"
    assert bytes(lab.picture.value) == b"mask (16, 4, 4) {'blocks': 2}"


def test_token_is_clamped_to_what_exists(sketched):
    lab = MaskLab()
    lab.grid.value = 16
    lab.row.value = lab.column.value = 15
    assert lab.level.options == ("1 x 1", "2 x 2", "4 x 4", "8 x 8", "patches")
    lab.level.value = "8 x 8"
    assert place(lab) == ("8 x 8", 7, 7) and lab.row.max == 7
    lab.base.value = 4
    assert lab.level.options == ("1 x 1", "4 x 4", "patches") and place(lab) == ("4 x 4", 3, 3)
    assert lab.token == 16 and lab.mask[lab.token].sum() == 33
    lab.level.value = "patches"
    assert place(lab) == ("patches", 3, 3) and lab.row.max == 15
    lab.base.value = 16
    assert place(lab) == ("patches", 3, 3) and lab.level.options == ("1 x 1", "patches")
    lab.grid.value = lab.base.value = 2
    assert place(lab) == ("patches", 1, 1) and lab.token == 4


def test_a_change_is_drawn_once(monkeypatch, sketched):
    lab, drawn = MaskLab(), []
    monkeypatch.setattr(mask_lab, "plot_mask", lambda *args, **options: drawn.append(args) or b"x")
    lab.row.value = lab.column.value = 3
    drawn.clear()
    lab.grid.value = 8
    lab.level.value = "1 x 1"  # clamps row and column too
    assert [args[:2] for args in drawn] == [(8, 2), (8, 2)]


@pytest.mark.parametrize("grid, base, blocks", [(4, 2, 1), (9, 3, 2)])
def test_script_repeats_the_view(grid, base, blocks):
    lab = MaskLab()
    lab.grid.value, lab.base.value, lab.blocks.value = grid, base, blocks
    lab.level.value, lab.row.value = lab.level.options[1], 1
    first, second = lab.script.splitlines()[-2:]
    names = {}
    exec(lab.script.replace(first, f"seen = {first}").replace(second, f"picture = {second}"), names)
    assert torch.equal(names["mask"], lab.mask) and names["token"] == lab.token
    assert names["seen"]._repr_png_() == bytes(lab.seen.value)
    assert names["picture"]._repr_png_() == bytes(lab.picture.value)


def test_what_cannot_work_is_named_and_the_last_view_stays(sketched):
    lab = MaskLab()
    mask, script, pictures = lab.mask, lab.script, (bytes(lab.seen.value), bytes(lab.picture.value))
    lab.grid.value = 14
    assert "Bases that fit 14: 14." in said(lab) and "last choice that worked" in said(lab)
    assert "#D55E00" in lab.status.value
    assert lab.mask is mask and lab.script == script and (bytes(lab.seen.value), bytes(lab.picture.value)) == pictures
    with pytest.raises(ClipeduError) as error:
        fractal_mask(14, 2)
    assert str(error.value) in said(lab)
    lab.base.value = 14
    assert lab.mask.all() and len(lab.mask) == 197 and "forbids nothing" in said(lab)
    assert "R = 1 summary token and 196 patches" in said(lab) and "#D55E00" not in lab.status.value


def test_words_are_those_of_the_paper_s_setting():
    first, sees, costs = in_words(16, 4, 4)
    assert "R = 17 summary tokens (1 + 16) and 256 patches: a sequence of L = 273 tokens" in first
    assert "66,849 of 74,529 pairs may attend, 89.7%" in first
    assert "4 x 4 token (0, 3) sees 33 tokens" in sees
    assert sees.endswith("1 of 1 on level 1 x 1, 16 of 16 on level 4 x 4, 16 of 256 patches.")
    assert "add 7.3%" in costs
    assert "the global token sees 273 tokens" in in_words(16, 4, 0)[1]
    assert "add 37.6%" in in_words(16, 2, 0)[2]
    with pytest.raises(ClipeduError, match="no token 273"):
        in_words(16, 4, 273)
