"""Reference values for small vectors, worked out apart from this code base with 50 digits and printed with 8 or 10."""

import math

import pytest
import torch

from .oracle import IMAGES, TEXTS, build, close, contrastive, fixed, lift, point

DIGITS = 6e-11  # half a unit of the tenth digit after the point, and a little
FEWER = 6e-9  # of the eighth


@pytest.mark.parametrize(
    ("letter", "curvature", "space", "time", "size"),
    [
        ("p", 1.0, (0.31265718, 0.41687624, 0), 1.1276259652, 0.5210953055),
        ("q", 1.0, (1.17520119, 0, 0), 1.5430806348, 1.1752011936),
        ("r", 1.0, (0, 3.62686041, 0), 3.7621956911, 3.6268604078),
        ("s", 1.0, (1.76635240, -1.32476430, 0.73598017), 2.5331142958, 2.3273736347),
        ("w", 1.0, (0.70512072, 0.94016095, 0), 1.5430806348, 1.1752011936),
        ("z", 1.0, (0.05002084, 0, 0), 1.0012502604, 0.0500208359),
        ("p", 0.1, (0.30125156, 0.40166875, 0), 3.2018885506, 0.5020859391),
        ("q", 0.1, (1.01675020, 0, 0), 3.3217135588, 1.0167501987),
        ("r", 0.1, (0, 2.13602554, 0), 3.8160981514, 2.1360255384),
        ("s", 0.1, (1.25062873, -0.93797155, 0.52109531), 3.5658663988, 1.6478480434),
        ("w", 0.1, (0.61005012, 0.81340016, 0), 3.3217135588, 1.0167501987),
        ("z", 0.1, (0.05000208, 0, 0), 3.1626729531, 0.0500020834),
    ],
)
def test_exponential_map(letter, curvature, space, time, size):
    geometry = fixed("lorentz", curvature=curvature)
    x = geometry.expmap0(point(letter))
    close(x, space, tolerance=FEWER)
    close(x.norm(), size, tolerance=DIGITS)
    close((1 / curvature + x.square().sum()).sqrt(), time, tolerance=DIGITS)
    close(geometry.logmap0(x), point(letter), rel=1e-12, tolerance=1e-15)
    close(x, lift(point(letter), curvature)[0], rel=1e-12, tolerance=1e-15)


# x, y | u.v, cos, arc | Euclidean d, d^2 | hyperbolic d, d^2, <x, y>: c = 1, then c = 0.1
PAIRS = """
p q  0.3 0.6 0.9272952180  0.8062257748 0.65  0.8384530886 0.7030035817 -1.3725826952  0.8095254142 0.6553313963 -10.3294590251
p r  0.8 0.8 0.6435011088  1.6278820596 2.65  1.6622354250 2.7630266082 -2.7303976017  1.6315384506 2.6619177156 -11.3607462680
p s  0.0 0.0 1.5707963268  1.6583123952 2.75  1.7105577213 2.9260077180 -2.8564054527  1.6644692847 2.7704579997 -11.4175067951
p w  0.5 1.0 0.0  0.5 0.25  0.5 0.25 -1.1276259652  0.5 0.25 -10.1252606338
w p  0.5 1.0 0.0  0.5 0.25  0.5 0.25 -1.1276259652  0.5 0.25 -10.1252606338
q r  0.0 0.0 1.5707963268  2.2360679775 5.0  2.4444289499 5.9752328909 -5.8053713153  2.2647225505 5.1289682306 -12.6759849710
q s  1.2 0.7589466384 0.7091024276  1.0488088482 1.1  1.2146603482 1.4753997615 -1.8329801709  1.0656601621 1.1356315810 -10.5732097527
q w  0.6 0.6 0.9272952180  0.8944271910 0.8  1.0079220350 1.0159068286 -1.5524391382  0.9063040612 0.8213870513 -10.4135123866
w r  1.6 0.8 0.6435011088  1.3416407865 1.8  1.5200322630 2.3104980804 -2.3955387709  1.3595713757 1.8484343256 -10.9385414585
r s  -1.8 -0.5692099788 2.1763409904  3.1780497164 10.1  3.3546189570 11.2534683464 -14.3348068683  3.2103445307 10.3063120059 -15.6112273573
"""


@pytest.mark.parametrize("row", PAIRS.strip().splitlines())
def test_similarity_of_two_points(row):
    first, second, *values = row.split()
    inner, cosine, arc, d, d2, *hyperbolic = map(float, values)
    expected = {
        ("euclidean-inner", 1.0): inner,
        ("cosine", 1.0): cosine,
        ("elliptic", 1.0): -arc,
        ("euclidean", 1.0): -d,
        ("euclidean-squared", 1.0): -d2,
    }
    for curvature, (near, near2, product) in ((1.0, hyperbolic[:3]), (0.1, hyperbolic[3:])):
        expected |= {
            ("lorentz", curvature): -near,
            ("lorentz-squared", curvature): -near2,
            ("lorentz-inner", curvature): product,
        }
    for (name, curvature), value in expected.items():
        geometry = fixed(name, curvature=curvature)
        x, y = point(first)[None], point(second)[None]
        assert geometry.similarity(x, y).item() == pytest.approx(value, abs=DIGITS), name
        assert geometry.similarity(y, x).item() == pytest.approx(value, abs=DIGITS), name


SPACES = [("euclidean", 1.0), ("lorentz", 1.0), ("lorentz", 0.1)]
HALF = math.pi / 2


@pytest.mark.parametrize(
    ("letter", "values"),  # K = 0.1, K = 0.3 for each of SPACES
    [
        ("p", (0.2013579208, 0.6435011088, 0.3939154755, HALF, HALF, HALF)),
        ("q", (0.1001674212, 0.3046926540, 0.1710160101, 0.5358253367, 0.6713407027, HALF)),
        ("r", (0.0500208568, 0.1505682728, 0.0551720990, 0.1661963744, 0.3005963550, 1.0935640947)),
        ("s", (0.0632877930, 0.1908939271, 0.0860398917, 0.2607459119, 0.3939154755, HALF)),
        ("w", (0.1001674212, 0.3046926540, 0.1710160101, 0.5358253367, 0.6713407027, HALF)),
        ("z", (HALF,) * 6),
    ],
)
def test_half_aperture(letter, values):
    settings = [(*space, min_radius) for space in SPACES for min_radius in (0.1, 0.3)]
    for (name, curvature, min_radius), value in zip(settings, values, strict=True):
        close(fixed(name, curvature=curvature).half_aperture(point(letter), min_radius), value, tolerance=DIGITS)


@pytest.mark.parametrize(
    ("pair", "angles", "residuals"),
    [
        ("pq", (1.4464413322, 1.5803472165, 1.4602438948), (1.2450834115, 1.1864317410, 0)),
        ("pr", (0.8288490588, 1.0284661041, 0.8506789197), (0.6274911380, 0.6345506287, 0)),
        ("ps", (1.8770736960, 2.0867189179, 1.9017390096), (1.6757157752, 1.6928034425, 0.3309426828)),
        ("pw", (0, 0, 0), (0, 0, 0)),
        ("wp", (math.pi, math.pi, math.pi), (3.0414252324, 2.9705766435, 2.4702519509)),
        ("qr", (2.0344439358, 2.4545905400, 2.0921924329), (1.9342765146, 2.2835745299, 1.4208517302)),
        ("qs", (1.3789287653, 1.7351201768, 1.4162429487), (1.2787613441, 1.5641041667, 0.7449022461)),
        ("qw", (2.0344439358, 2.2279413144, 2.0544071783), (1.9342765146, 2.0569253043, 1.3830664756)),
        ("wr", (1.1071487178, 1.5451169564, 1.1536153514), (1.0069812966, 1.3741009463, 0.4822746487)),
        ("rs", (2.7201734467, 3.0073743770, 2.7761173162), (2.6701525899, 2.9522022780, 2.4755209612)),
    ],
)
def test_exterior_angle_and_entailment(pair, angles, residuals):
    x, y = map(point, pair)
    for (name, curvature), angle, residual in zip(SPACES, angles, residuals, strict=True):
        geometry = fixed(name, curvature=curvature)
        close(geometry.exterior_angle(x, y), angle, tolerance=DIGITS)
        close(geometry.entailment(x, y), residual, tolerance=DIGITS)
        close(geometry.entailment(x, y, min_radius=0), angle, tolerance=DIGITS)


@pytest.mark.parametrize(
    ("theta", "flat", "curved", "less"),  # distance and exterior angle of each of SPACES, both points at radius 1
    [
        (math.pi / 6, (0.5176380902, 1.8325957146), (0.5993191481, 1.9628581888), (0.5257030667, 1.8451571416)),
        (math.pi / 3, (1.0, 2.0943951024), (1.1163269190, 2.2985598906), (1.0124207924, 2.1159516701)),
        (math.pi / 2, (1.4142135624, 2.3561944902), (1.5133740066, 2.5665864710), (1.4257941884, 2.3807786964)),
        (2 * math.pi / 3, (1.7320508076, 2.6179938780), (1.7877441356, 2.7835636168), (1.7390652623, 2.6390269819)),
    ],
)
def test_two_points_at_radius_one(theta, flat, curved, less):
    x = torch.tensor([1.0, 0.0], dtype=torch.float64)
    y = torch.tensor([math.cos(theta), math.sin(theta)], dtype=torch.float64)
    for (name, curvature), (distance, angle) in zip(SPACES, (flat, curved, less), strict=True):
        geometry = fixed(name, 2, curvature)
        close(geometry.distance(x[None], y[None])[0, 0], distance, tolerance=DIGITS)
        close(geometry.exterior_angle(x, y), angle, tolerance=DIGITS)


def test_prototypes():
    prompts = TEXTS[:2]
    for name in ("cosine", "elliptic"):
        close(fixed(name).mean(prompts), (0.8944271910, 0.4472135955, 0), tolerance=DIGITS)
    mean = fixed("euclidean").mean(prompts)
    close(mean, (0.65, 0.2, 0), rel=1e-15)
    close(mean.norm(), 0.6800735254, tolerance=DIGITS)
    for curvature, space, time in (
        (1.0, (0.7012756669, 0.2157771283, 0), 1.2403013061),
        (0.1, (0.6550220160, 0.2015452357, 0), 3.2356876122),
    ):
        geometry = fixed("lorentz", curvature=curvature)
        x = geometry.expmap0(geometry.mean(prompts))
        close(x, space, tolerance=DIGITS)
        close((1 / curvature + x.square().sum()).sqrt(), time, tolerance=DIGITS)


def test_the_lorentz_centroid_is_another_prototype():
    geometry = fixed("lorentz")
    space, time = (part.sum(0) for part in lift(TEXTS[:2], 1.0))
    centroid = space / (time.square() - space.square().sum()).sqrt()
    close(centroid, (0.6830239265, 0.1913733550, 0), tolerance=DIGITS)
    gap = geometry.distance(geometry.logmap0(centroid)[None], geometry.mean(TEXTS[:2])[None])
    close(gap[0, 0], 0.0269241211, tolerance=DIGITS)


def test_traversal_from_an_image_to_the_root():
    image = IMAGES[1]
    spaces = {
        1.0: (2.1699528255, -0.2893270434, 0.4339905651),
        0.75: (1.3933636392, -0.1857818186, 0.2786727278),
        0.5: (0.8266192627, -0.1102159017, 0.1653238525),
        0.25: (0.3843662659, -0.0512488355, 0.0768732532),
    }
    lengths = {1.0: 1.5427248621, 0.75: 1.1570436465, 0.5: 0.7713624310, 0.25: 0.3856812155}
    for weight, space in spaces.items():
        for name in ("euclidean", "lorentz"):
            geometry = fixed(name)
            root = geometry.root(TEXTS)
            place = geometry.geodesic(image, root, 1 - weight)
            close(place, weight * image, rel=1e-12)
            close(geometry.distance(place[None], root[None])[0, 0], lengths[weight], tolerance=DIGITS)
        close(fixed("lorentz").expmap0(place), space, tolerance=DIGITS)


def test_the_sphere_is_crossed_at_constant_speed_and_a_normalised_line_is_not():
    image, root = IMAGES[1], torch.tensor([0.6, 0, 0.8], dtype=torch.float64)
    geometry = fixed("cosine")
    whole = 0.7392823892
    line = {0.75: 0.5609960943, 0.5: 0.3696411946, 0.25: 0.1782862949, 0.0: 0.0}
    for weight, angle in line.items():
        place = geometry.geodesic(image, root, 1 - weight)
        close(geometry.distance(place[None], root[None])[0, 0], weight * whole, tolerance=DIGITS)
        mixed = weight * image / image.norm() + (1 - weight) * root
        close(geometry.distance(mixed[None], root[None])[0, 0], angle, tolerance=DIGITS)


@pytest.mark.parametrize(
    ("dim", "alpha"), [(384, 0.0510310363), (512, 0.0441941738), (768, 0.0360843918), (1024, 0.03125)]
)
def test_dimension_scaling(dim, alpha):
    features = torch.ones(2, dim, dtype=torch.float64)
    for name in ("euclidean", "lorentz"):
        geometry = build(name, dim)
        for side in ("image", "text"):
            close(geometry.tangent(features, side), alpha * features, tolerance=DIGITS)
            close(geometry.tangent(features, side), features / math.sqrt(dim), rel=1e-12)
    assert build("lorentz", 512).log_alpha_text.item() == pytest.approx(-3.1191623125, abs=DIGITS)


@pytest.mark.parametrize(
    ("name", "curvature", "min_radius", "radius"),
    [
        ("euclidean", 1.0, 0.1, 0.1),
        ("lorentz", 1.0, 0.1, 0.198690),
        ("lorentz", 0.1, 0.1, 0.628313),
        ("lorentz", 10.0, 0.1, 0.062832),
        ("lorentz", 1.0, 0.3, 0.568825),
        ("lorentz", 0.1, 0.3, 1.798782),
    ],
)
def test_saturation_radius(name, curvature, min_radius, radius):
    geometry = fixed(name, curvature=curvature)
    inside, outside = ((radius + way * 1e-6) * point("q") for way in (-1, 1))
    assert geometry.half_aperture(inside, min_radius).item() == HALF
    assert geometry.half_aperture(outside, min_radius).item() < HALF - 1e-4


def test_distance_of_one_pair_at_three_curvatures():
    x, y = TEXTS[:1], IMAGES[:1]
    close(fixed("euclidean").distance(x, y)[0, 0], 0.5916079783, tolerance=DIGITS)
    for curvature, distance in ((0.1, 0.5917042218), (1.0, 0.5926126133), (10.0, 0.6067402895)):
        close(fixed("lorentz", curvature=curvature).distance(x, y)[0, 0], distance, tolerance=DIGITS)


def test_twice_as_long_at_a_quarter_of_the_curvature():
    x, y = TEXTS[:1], IMAGES[:1]
    wide, narrow = fixed("lorentz", curvature=0.5), fixed("lorentz", curvature=2.0)
    close(wide.distance(2 * x, 2 * y)[0, 0], 1.1874293686, tolerance=DIGITS)
    close(2 * narrow.distance(x, y)[0, 0], 1.1874293686, tolerance=DIGITS)
    for geometry, k in ((wide, 2), (narrow, 1)):
        close(geometry.exterior_angle(k * x, k * y)[0], 0.2553518370, tolerance=DIGITS)
        close(geometry.half_aperture(k * x)[0], 0.2636213150, tolerance=DIGITS)


def test_a_modality_gap_is_free_in_squared_distance_alone():
    """One more coordinate, 0 for texts and 1 for images: at right angles to all differences."""
    texts = torch.cat([TEXTS, torch.zeros(3, 1)], dim=1)
    images = torch.cat([IMAGES, torch.ones(3, 1)], dim=1)
    squared, plain = (fixed(name, 4).similarity(images, texts) for name in ("euclidean-squared", "euclidean"))
    assert contrastive(squared)[2] == pytest.approx(0.3685549428, abs=DIGITS)
    assert contrastive(plain)[2] == pytest.approx(0.7687957419, abs=DIGITS)
    close(fixed("euclidean", 4).entailment(texts, images).mean(), 0.9345290448, tolerance=DIGITS)
