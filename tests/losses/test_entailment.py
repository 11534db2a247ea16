"""The entailment term around a loss: oracle values, its schedule, what it logs, and where it is refused."""

import pytest
import torch

from clipedu.geometry import build_geometry
from clipedu.losses import Entailed, build_loss
from clipedu.utils.errors import ClipeduError

TEXTS = torch.tensor([[0.3, 0.4, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.8]], dtype=torch.float64)
IMAGES = torch.tensor([[0.6, 0.9, 0.1], [1.5, -0.2, 0.3], [0.1, -0.3, 1.4]], dtype=torch.float64)
ROWS = torch.arange(3)


def entailed(name, weight=0.2, **options):
    loss = build_loss("clip", temperature=1.0, geometry=build_geometry(name, 3))
    return Entailed(loss, weight, **options).double()


@pytest.mark.parametrize(
    ("name", "min_radius", "mean", "inside"),
    [
        ("euclidean", 0.1, 0.2947694678, 1),
        ("euclidean-squared", 0.3, 0.1402380757, 1),
        ("lorentz", 0.1, 0.3509490274, 1),
        ("lorentz-squared", 0.3, 0.0989766377, 2),
    ],
)
def test_batch_of_three_pairs(name, min_radius, mean, inside):
    loss = entailed(name, min_radius=min_radius)
    plain = loss.loss(IMAGES, TEXTS, ROWS)
    output = loss(IMAGES, TEXTS, ROWS)
    assert output.terms["entailment"].item() == pytest.approx(0.2 * mean, rel=1e-9)
    assert output.total.item() == pytest.approx(plain.total.item() + 0.2 * mean, rel=1e-9)
    assert sum(output.terms.values()).item() == pytest.approx(output.total.item(), rel=1e-12)
    assert output.watch["entailment_angle"].item() == pytest.approx(mean, rel=1e-9)
    assert output.watch["entailed"].item() == pytest.approx(inside / 3)
    assert output.terms.keys() == plain.terms.keys() | {"entailment"}


def test_text_is_the_apex_not_the_image():
    swapped = entailed("euclidean", min_radius=0.0)(TEXTS, IMAGES, ROWS)
    right = entailed("euclidean", min_radius=0.0)(IMAGES, TEXTS, ROWS)
    exterior = torch.tensor([0.19842161, 0.62475387, 0.48504979], dtype=torch.float64)
    wrong = torch.tensor([3.0507348730, 2.7527336653, 2.8786918702], dtype=torch.float64)
    assert right.watch["entailment_angle"].item() == pytest.approx(exterior.mean().item(), rel=1e-7)
    assert swapped.watch["entailment_angle"].item() == pytest.approx(wrong.mean().item(), rel=1e-9)


def test_saturated_is_the_share_of_texts_near_the_root():
    near = torch.cat([TEXTS[:1] * 0.1, TEXTS[1:]])  # of length 0.05, below K = 0.1
    output = entailed("euclidean")(IMAGES, near, ROWS)
    assert output.watch["saturated"].item() == pytest.approx(1 / 3)


def test_min_radius_goes_linearly_with_progress():
    loss = entailed("euclidean", min_radius=0.3, final_min_radius=0.1)
    means = []
    for progress, min_radius in ((0.0, 0.3), (0.25, 0.25), (1.0, 0.1)):
        loss.progress = progress
        assert loss.min_radius == pytest.approx(min_radius)
        means.append(loss(IMAGES, TEXTS, ROWS).watch["entailment_angle"].item())
        assert loss.loss.progress == progress  # the loss inside has its own schedules
    assert means[0] == pytest.approx(0.1402380757, rel=1e-9) and means[2] == pytest.approx(0.2947694678, rel=1e-9)


def test_gradient_pulls_images_into_the_cone_and_reaches_the_curvature():
    image, text = IMAGES.clone().requires_grad_(), TEXTS.clone().requires_grad_()
    loss = entailed("lorentz", weight=1.0)
    only = loss(image, text, ROWS).total - loss.loss(image, text, ROWS).total
    only.backward()
    assert image.grad[0].abs().sum() < 1e-12 and image.grad[1].norm() > 0  # the first pair is inside
    assert loss.geometry.log_curvature.grad > 0  # descent lowers the curvature: cones widen
    with torch.no_grad():
        moved = loss(image - 1e-3 * image.grad, text, ROWS).watch["entailment_angle"]
    assert moved < loss(image, text, ROWS).watch["entailment_angle"]


@pytest.mark.parametrize("name", ["cosine", "elliptic"])
def test_sphere_is_refused(name):
    with pytest.raises(ClipeduError, match="no cones|has none.*euclidean.*lorentz"):
        entailed(name)


def test_loss_without_geometry_is_refused():
    with pytest.raises(ClipeduError, match="vicreg rests on no similarity"):
        Entailed(build_loss("vicreg"), 0.2)


def test_values_out_of_range_are_told():
    with pytest.raises(ClipeduError, match="min_radius must be a number >= 0 and <= 1e[+]18, got -1"):
        entailed("euclidean", min_radius=-1)
    with pytest.raises(ClipeduError, match="final_min_radius must be a number >= 0 and <= 1e[+]18, got 5e[+]200"):
        entailed("euclidean", final_min_radius=5e200)
    with pytest.raises(ClipeduError, match="weight must be a number >= 0, got 'much'"):
        entailed("euclidean", weight="much")


def test_memory_of_the_loss_inside_is_saved_and_restored():
    def make():
        geometry = build_geometry("euclidean", 3)
        return Entailed(build_loss("sogclr", temperature=0.5, num_samples=3, geometry=geometry), 0.1).double()

    first, second = make(), make()
    first(IMAGES, TEXTS, ROWS)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(IMAGES, TEXTS, ROWS).total, second(IMAGES, TEXTS, ROWS).total)
