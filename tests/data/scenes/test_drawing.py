"""The renderer: outlines against geometry, and pictures against what they are said to show."""

import dataclasses
import itertools
import math

import pytest
import torch

from clipedu.data.scenes import drawing as module
from clipedu.data.scenes.attributes import Attributes
from clipedu.data.scenes.drawing import BACKGROUNDS, COLOURS, REACH, SHAPES, SIZES, cover, draw
from clipedu.data.scenes.sampling import sample

SHAPE_NAMES, COLOUR_NAMES, SIZE_NAMES = list(SHAPES), list(COLOURS), list(SIZES)


def alone(shape: int = 0, colour: int = 0, size: int = 2, background: int = 0, n: int = 1, **changes) -> Attributes:
    """N equal scenes with one upright object in the middle, all in nominal colours, without noise."""
    scenes = sample(0, "zeroshot", torch.arange(n))
    radius = torch.full((n, 2), SIZES[SIZE_NAMES[size]])
    rgb = torch.tensor(COLOURS[COLOUR_NAMES[colour]]).float().expand(n, 2, 3)
    tones = torch.tensor(list(BACKGROUNDS.values())[background][1:]).float()[None, :, None].expand(n, 2, 3)
    what = dict(tones=tones, shape=torch.full((n, 2), shape), size=torch.full((n, 2), size), radius=radius, rgb=rgb)
    where = dict(centre=torch.full((n, 2, 2), 0.5), angle=torch.zeros(n, 2), background=torch.full((n,), background))
    return dataclasses.replace(scenes, **{**what, **where, "noise": torch.zeros(n), **changes})


def pixel_centres(size: int) -> torch.Tensor:
    return (torch.arange(size) + 0.5) / size


def plane(n: int = 801) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Points of [-1.2, 1.2]^2 in float64, and the area each stands for."""
    axis = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2.4 - 1.2
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    return x, y, (2.4 / n) ** 2


def lens(a: float, b: float, d: float) -> float:
    """Area common to two discs of radius a and b whose centres are d apart."""
    alpha = math.acos((d * d + a * a - b * b) / (2 * d * a))
    beta = math.acos((d * d + b * b - a * a) / (2 * d * b))
    return a * a * (alpha - math.sin(2 * alpha) / 2) + b * b * (beta - math.sin(2 * beta) / 2)


AREAS = {
    "circle": math.pi * 0.92**2,
    "ring": math.pi * (1.0**2 - 0.5**2),
    "square": 1.54**2,
    "triangle": 3 * math.sqrt(3) * 0.55**2,
    "diamond": 2 * 0.62 * 1.1,
    "star": 5 * 1.1 * 0.48 * math.sin(math.pi / 5),
    "cross": 2 * (2 * 0.6) - 0.6**2,
    "heart": 2 * 0.86**2 + math.pi * 0.86**2 / 2,  # a square and two half-discs on its sides
    "crescent": math.pi - lens(1.0, 0.8, 0.5),
    "arrow": 0.85 * 1.05 + 0.54 * 1.0,
}


@pytest.mark.parametrize("name", SHAPES)
def test_area_is_that_of_elementary_geometry(name):
    x, y, patch = plane()
    area = float((SHAPES[name](x, y) < 0).sum()) * patch
    assert area == pytest.approx(AREAS[name], rel=4e-3)


@pytest.mark.parametrize("name", SHAPES)
def test_shape_stays_within_its_reach_and_fills_most_of_it(name):
    x, y, _ = plane()
    outermost = torch.hypot(x, y)[SHAPES[name](x, y) < 0].max()
    assert 0.9 <= outermost <= REACH + 0.003


@pytest.mark.parametrize("name", SHAPES)
def test_distance_grows_by_one_for_each_unit_near_the_outline(name):
    """Otherwise an edge is not one pixel wide."""
    x, y, _ = plane()
    distance = SHAPES[name](x, y)
    step = 2.4 / 801
    slope = torch.hypot(*(g / step for g in torch.gradient(distance)))
    near = distance.abs() < 0.03
    assert ((slope[near] - 1).abs() < 0.02).double().mean() > 0.93  # all but the corners


def test_pictures_are_uint8_rgb_of_the_size_asked_for():
    scenes = sample(3, "train", torch.arange(7))
    for size in (32, 50, 224):
        pictures = draw(scenes, size)
        assert pictures.dtype == torch.uint8 and pictures.shape == (7, 3, size, size)
        assert all(int(picture.max()) - int(picture.min()) > 40 for picture in pictures)


def test_pixels_do_not_depend_on_what_else_is_drawn():
    for size, n in ((32, 600), (224, 12)):  # more than one piece
        scenes = sample(0, "train", torch.arange(n))
        together = draw(scenes, size)
        for row in (0, n // 2, n - 1):
            assert torch.equal(draw(scenes[row : row + 1], size)[0], together[row])
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(scenes[order], 224), together[order])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_same_up_to_rounding():
    scenes = sample(0, "train", torch.arange(300))
    on_gpu = draw(scenes, 32, device="cuda")
    assert on_gpu.is_cuda
    assert (on_gpu.cpu().int() - draw(scenes, 32).int()).abs().max() <= 1


def test_half_the_resolution_is_the_average_of_four_pixels():
    scenes = dataclasses.replace(sample(0, "train", torch.arange(64)), noise=torch.zeros(64))
    scenes = dataclasses.replace(
        scenes, background=scenes.background % 2
    )  # patterns have crisper edges in large pictures
    fine = torch.nn.functional.avg_pool2d(draw(scenes, 128).float(), 2)
    assert (fine - draw(scenes, 64).float()).abs().mean() < 1


@pytest.mark.parametrize("name", SHAPES)
def test_sizes_are_ordered_and_cover_the_right_area(name):
    number = SHAPE_NAMES.index(name)
    areas = [float(cover(alone(number, size=size), 0, pixel_centres(32)).mean()) for size in range(3)]
    assert areas[0] * 1.6 < areas[1] and areas[1] * 1.6 < areas[2]
    for size, radius in enumerate(SIZES.values()):
        assert areas[size] == pytest.approx(AREAS[name] * radius**2, rel=0.06)


def test_sizes_can_be_told_apart_for_each_shape_and_jitter():
    scenes = sample(0, "train", torch.arange(4000))
    radii = [scenes.radius[scenes.size == size] for size in range(3)]
    assert radii[0].max() * 1.2 < radii[1].min() and radii[1].max() * 1.2 < radii[2].min()


def test_no_two_large_shapes_look_alike_at_32_pixels():
    masks = torch.stack([cover(alone(shape), 0, pixel_centres(32))[0] for shape in range(len(SHAPES))])
    for a, b in itertools.combinations(range(len(SHAPES)), 2):
        overlap = torch.minimum(masks[a], masks[b]).sum() / torch.maximum(masks[a], masks[b]).sum()
        assert overlap < 0.85, (SHAPE_NAMES[a], SHAPE_NAMES[b])


def test_objects_are_upright_and_where_they_are_said_to_be():
    axis = pixel_centres(64)
    centre = torch.tensor([[[0.3, 0.6], [0.0, 0.0]]])
    mask = cover(alone(SHAPE_NAMES.index("circle"), size=0, centre=centre), 0, axis)[0]
    assert float((mask.sum(0) * axis).sum() / mask.sum()) == pytest.approx(0.3, abs=1e-3)  # columns are x
    assert float((mask.sum(1) * axis).sum() / mask.sum()) == pytest.approx(0.6, abs=1e-3)  # rows are y
    for name, upper_half in (("triangle", False), ("heart", True), ("arrow", True)):  # where its widest row is
        widest = cover(alone(SHAPE_NAMES.index(name)), 0, axis)[0].sum(1).argmax()
        assert (widest < 32) == upper_half, name


def test_a_turn_is_clockwise():
    """An arrow that points up, turned by a quarter, points right."""
    number, quarter = SHAPE_NAMES.index("arrow"), torch.full((1, 2), math.pi / 2)
    up, right = (cover(alone(number, angle=angle), 0, pixel_centres(64))[0] for angle in (torch.zeros(1, 2), quarter))
    assert torch.allclose(right, torch.rot90(up, -1), atol=1e-4)


def test_objects_lie_inside_the_picture():
    scenes = sample(0, "train", torch.arange(2000))
    for slot in (0, 1):
        there = scenes[scenes.count > slot]
        margin = torch.minimum(there.centre[:, slot], 1 - there.centre[:, slot]).amin(1)
        assert (margin >= REACH * there.radius[:, slot] - 1e-5).all()
        mask = cover(there, slot, pixel_centres(32))
        area = torch.tensor([AREAS[name] for name in SHAPES])[there.shape[:, slot]] * there.radius[:, slot] ** 2
        assert torch.allclose(mask.mean((1, 2)), area, rtol=0.12)


def test_two_objects_do_not_hide_one_another():
    scenes = sample(0, "train", torch.arange(2000))
    scenes = scenes[scenes.count == 2]
    both = cover(scenes, 0, pixel_centres(64)) * cover(scenes, 1, pixel_centres(64))
    assert both.sum((1, 2)).max() < 2  # pixels of 4096


def test_the_second_object_of_a_scene_with_one_is_not_drawn():
    scenes = sample(0, "train", torch.arange(200))
    scenes = scenes[scenes.count == 1]
    assert cover(scenes, 1, pixel_centres(32)).max() == 0
    assert cover(scenes, 0, pixel_centres(32)).amax((1, 2)).min() > 0.9


@pytest.mark.parametrize("name", COLOURS)
def test_an_object_has_its_colour(name):
    picture = draw(alone(SHAPE_NAMES.index("square"), COLOUR_NAMES.index(name)), 32)[0]
    assert picture[:, 16, 16].tolist() == list(COLOURS[name])


def test_jittered_colours_stay_near_their_name():
    scenes = sample(0, "train", torch.arange(4000))
    nominal = torch.tensor(list(COLOURS.values())).float()
    there = scenes.exists()
    nearest = torch.cdist(scenes.rgb[there], nominal).argmin(1)
    assert (nearest == scenes.colour[there]).double().mean() > 0.995


def test_colours_differ_from_one_another_and_from_every_background():
    nominal = torch.tensor(list(COLOURS.values())).double()
    assert torch.pdist(nominal).min() > 85
    for _, darker, lighter in BACKGROUNDS.values():
        for tone in (darker, lighter):
            assert (nominal - tone).norm(dim=1).min() > 80


def test_backgrounds_have_their_tones_and_patterns():
    corners = {}
    for number, name in enumerate(BACKGROUNDS):
        picture = draw(alone(background=number, size=0, tones=torch.tensor([[[60.0] * 3, [190.0] * 3]])), 64)[
            0, 0
        ].float()
        corners[name] = picture[:16]  # the object doesn't reach the top quarter
    plain, striped, checked, gradient = (corners[name] for name in ("light", "striped", "checked", "gradient"))
    assert plain.std() == 0 and plain[0, 0] == 60
    for pattern in (striped, checked):
        assert pattern.min() == 60 and pattern.max() == 190
    steps = [float(p.diff(dim=1).abs().max()) for p in (plain, gradient, striped)]
    assert steps[0] == 0 < steps[1] < 10 < steps[2]


def test_stripes_run_one_way_and_checks_two():
    still = dict(pattern_angle=torch.zeros(1), pattern_centre=torch.full((1, 2), 0.5))
    numbers = (list(BACKGROUNDS).index(name) for name in ("striped", "checked"))
    striped, checked = (draw(alone(size=0, background=number, **still), 64)[0, 0].int() for number in numbers)
    assert (striped[:16].diff(dim=0) == 0).all() and (striped[0].diff() != 0).any()
    assert (checked[:16].diff(dim=0) != 0).any() and (checked[0].diff() != 0).any()
    dark = striped[0] < striped[0].float().mean()
    assert (dark.int().diff() != 0).sum() in (7, 8)  # four periods a side


def hashed(key: int, pixel: int) -> int:
    """The noise's 32 bits, in plain integers."""
    x = (key + pixel * 0x9E3779B1) % 2**32
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ (x >> 16)


def test_noise_is_the_hash_of_scene_and_pixel():
    scenes = dataclasses.replace(sample(0, "train", torch.arange(3)), noise=torch.tensor([127.5, 255.0, 0.0]))
    canvas = torch.zeros(3, 3, 4, 5)
    module._add_noise(canvas, scenes)
    for scene, pixel, channel in itertools.product(range(3), range(20), range(3)):
        level = (hashed(int(scenes.noise_key[scene]), pixel) >> 8 * channel) % 256 - 127.5
        assert canvas[scene, channel].flatten()[pixel] == level * float(scenes.noise[scene]) / 127.5


def test_noise_is_even_independent_and_as_strong_as_said():
    scenes = dataclasses.replace(sample(1, "train", torch.arange(40)), noise=torch.full((40,), 20.0))
    canvas = torch.zeros(40, 3, 64, 64)
    module._add_noise(canvas, scenes)
    assert canvas.abs().max() <= 20
    assert canvas.mean().abs() < 0.1  # of 490,000 draws: 6 sigma
    assert canvas.std() == pytest.approx(20 / math.sqrt(3), rel=0.01)
    flat = canvas.transpose(0, 1).reshape(3, -1)
    pairs = [
        (flat[0], flat[1]),
        (flat[1], flat[2]),
        (flat[0][1:], flat[0][:-1]),
        (canvas[0].flatten(), canvas[1].flatten()),
    ]
    for a, b in pairs:
        assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 0.05


def test_noise_does_not_drown_an_object():
    """The strongest noise is well below the contrast of the faintest colour on its worst background."""
    scenes = sample(0, "train", torch.arange(4000))
    assert 25 < scenes.noise.max() <= 30
    tones = scenes.tones[:, :, None, :]  # [N, tone, 1, 3]
    contrast = (scenes.rgb[:, None] - tones).norm(dim=-1).amin(1)[scenes.exists()]
    assert contrast.min() > 55
