"""What the labs share: redrawing, errors, the script that repeats the view, and the controls."""

import html

import pytest

pytest.importorskip("ipywidgets", reason="widgets need: pip install ipywidgets")

import ipywidgets

from clipedu.data.scenes.dataset import Scenes
from clipedu.utils.errors import ClipeduError
from clipedu.widgets import GeometryLab, LossLab, MaskLab, NormLab, OptimizerLab, TrainingLab
from clipedu.widgets.controls import Lab, control_style, paragraphs, png_image, slider, slider_check
from tests.helpers.labs import parts_of
from tests.plots.test_geometry import fake_space


class Roots(Lab):
    """A lab of one slider: the square root of a number, which is set to 0 where `clamp` is ticked."""

    def __init__(self, number: int = 4):
        super().__init__("100px")
        self.number = ipywidgets.IntSlider(value=number, min=-9, max=9)
        self.clamp = ipywidgets.Checkbox(value=False)
        self.note = ipywidgets.HTML()
        self.drawn: list[int] = []
        self._arrange([[self.number, self.note], [self.clamp]], [self.status, self.picture, self.line])

    def _draw(self) -> None:
        with self._unobserved():
            self.number.value = 0 if self.clamp.value else self.number.value
        if self.number.value < 0:
            raise ClipeduError(f"{self.number.value} < 0 has no root")
        self.drawn.append(self.number.value)
        self.note.value = f"number {self.number.value}"
        self.picture.value = str(self.number.value**0.5).encode()
        self._say("")

    def _script(self) -> str:
        return f"{self.number.value} ** 0.5 > '<'"


def test_a_change_draws_once():
    lab = Roots()
    assert lab.drawn == [4] and lab.picture.value == b"2.0"
    lab.number.value = 9  # the text beside it changes too, and is no control
    assert lab.drawn == [4, 9] and lab.picture.value == b"3.0"
    lab.clamp.value = True  # moves the other slider
    assert lab.drawn == [4, 9, 0] and lab.number.value == 0


def test_an_error_is_a_line_and_the_last_view_stays():
    lab = Roots()
    lab.number.value = -1
    said = html.unescape(lab.status.value)
    assert "-1 < 0 has no root (the picture shows the last choice that worked)" in said and "&lt;" in lab.status.value
    assert "#D55E00" in said
    assert lab.picture.value == b"2.0" and lab.script == "4 ** 0.5 > '<'" and html.escape(lab.script) in lab.line.value
    lab.number.value = 1
    assert lab.status.value == "" and lab.picture.value == b"1.0"


def test_a_first_choice_that_does_not_work_is_raised():
    with pytest.raises(ClipeduError, match="-3 < 0 has no root"):
        Roots(-3)


def test_other_errors_are_not_hidden(monkeypatch):
    lab = Roots()
    monkeypatch.setattr(lab, "_draw", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lab.number.value = 3


def test_a_control_is_observed_again_after_an_error():
    lab = Roots()
    with pytest.raises(KeyError), lab._unobserved():
        raise KeyError
    lab.number.value = 1
    assert lab.drawn == [4, 1]


def test_one_line_of_script_is_code_and_several_are_a_block(monkeypatch):
    lab = Roots()
    assert lab.line.value == "The same in Python: <code>4 ** 0.5 &gt; &#x27;&lt;&#x27;</code>"
    monkeypatch.setattr(lab, "_script", lambda: "a\nb")
    lab.number.value = 1
    assert lab.line.value == "The same in Python:<pre>a\nb</pre>"


def test_a_lab_shows_itself_in_a_notebook():
    assert "application/vnd.jupyter.widget-view+json" in Roots()._repr_mimebundle_()


@pytest.mark.parametrize("lab", [LossLab, MaskLab, NormLab, OptimizerLab, TrainingLab, GeometryLab])
def test_each_lab_is_pictures_and_no_output_widget(lab):
    made = lab({"lorentz": fake_space("lorentz")}, Scenes("val", 20)) if lab is GeometryLab else lab()
    parts = list(parts_of(made))
    assert {id(made.status), id(made.picture), id(made.line)} <= {id(part) for part in parts}
    assert not any(isinstance(part, ipywidgets.Output) for part in parts)
    assert bytes(made.picture.value).startswith(b"\x89PNG")
    assert html.escape(made.script) in made.line.value


def test_slider_keeps_the_chosen_value_and_rounds_the_others():
    made = slider("lr", [0.1, 3 * 0.1, 1.0], 0.123456, control_style("300px", "50px"))
    assert made.options == (("0.1", 0.1), ("0.123456", 0.123456), ("0.3", 0.3), ("1", 1.0)) and made.value == 0.123456
    assert (made.layout.width, made.style.description_width) == ("300px", "50px")
    assert not made.continuous_update
    assert len(slider("lr", [0.1, 1.0], 1.0, {}).options) == 2


def test_image_and_paragraphs():
    layout = png_image("500px", align_self="center").layout
    assert (layout.max_width, layout.width, layout.align_self) == ("500px", "100%", "center")
    assert paragraphs(["a < b", "c"]) == "a &lt; b<br>c"


def test_slider_check_echoes():
    moved, received = slider_check().children
    moved.value = 7
    assert received.value == "Python received: 7"
