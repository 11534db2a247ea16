import pytest
import torch
from matplotlib.mathtext import MathTextParser

import clipedu
from clipedu.geometry import build_geometry
from clipedu.losses import LOSSES, Loss, build_loss
from clipedu.utils.errors import ClipeduError
from tests.helpers.processes import assert_light

from .oracle import ROWS, oracle_set


def test_the_five_of_the_course_come_first():
    assert list(LOSSES)[:5] == ["clip", "sogclr", "cyclip", "vicreg", "onlineclr"]
    assert clipedu.LOSSES is LOSSES and clipedu.build_loss is build_loss


@pytest.mark.parametrize("name", list(LOSSES))
def test_each_entry_tells_a_person_what_it_is_and_builds_with_its_defaults(name):
    entry = LOSSES[name]
    assert entry.description and "\n" not in entry.description and len(entry.description) < 100
    assert entry.paper.startswith("arXiv:") or name == "onlineclr"  # no paper of it is known
    assert entry.formula.count("{") == entry.formula.count("}") > 0
    assert "num_samples" not in entry.defaults or entry.defaults["num_samples"] is None
    options = {
        key: value for key, value in entry.defaults.items() if key not in ("temperature", "num_samples", "geometry")
    }
    spelled, short = build_loss(name, num_samples=4, **options), build_loss(name, num_samples=4)
    assert isinstance(short, Loss)
    assert torch.equal(spelled(*oracle_set("A"), ROWS).total, short(*oracle_set("A"), ROWS).total)


@pytest.mark.parametrize("name", list(LOSSES))
def test_matplotlib_can_draw_the_formula(name):
    MathTextParser("path").parse(f"${LOSSES[name].formula}$")


@pytest.mark.parametrize("name", list(LOSSES))
def test_one_call_suits_all_losses(name):
    loss = build_loss(name, temperature=0.05, num_samples=4, geometry=build_geometry("cosine", 3))
    assert loss(*oracle_set("A"), ROWS).total.isfinite()


def test_the_course_s_numbers_are_the_defaults():
    assert LOSSES["clip"].defaults["temperature"] == 0.01
    assert LOSSES["sogclr"].defaults["gamma"] == LOSSES["onlineclr"].defaults["gamma"] == 0.8
    assert (LOSSES["cyclip"].defaults["cross"], LOSSES["cyclip"].defaults["in_modal"]) == (0.25, 0.25)
    assert LOSSES["vicreg"].defaults == {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}


def test_unknown_names_and_options():
    with pytest.raises(ClipeduError, match="unknown loss 'sogcl'. Did you mean 'sogclr'.*onlineclr"):
        build_loss("sogcl")
    with pytest.raises(ClipeduError, match="vicreg has no option 'gamma'. Allowed: invariance, variance, covariance"):
        build_loss("vicreg", gamma=0.5)
    with pytest.raises(ClipeduError, match=r"geometry must be an object, got 'cosine': pass build_geometry"):
        build_loss("clip", geometry="cosine")


@pytest.mark.parametrize("temperature", [0, -0.1, float("nan"), float("inf"), "hot", True])
def test_bad_temperatures(temperature):
    with pytest.raises(ClipeduError, match="temperature must be a number > 0"):
        build_loss("clip", temperature=temperature)


def test_importing_it_is_light():
    assert_light("clipedu.losses", ("timm", "transformers", "matplotlib", "sklearn", "pandas", "torchvision"))
