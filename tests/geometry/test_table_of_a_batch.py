"""Reference values for a batch of three pairs, worked out apart from this code base and printed with 8 or 10 digits."""

import pytest

from .oracle import IMAGES, TEXTS, close, contrastive, fixed

DIGITS = 6e-11  # half a unit of the tenth digit after the point, and a little
FEWER = 6e-9  # of the eighth

BATCH = [
    (
        "cosine",
        1.0,
        "0.99422059 0.55234477 0.09205746  0.47967076 0.97230559 0.19446112  -0.12541194 0.06967330 0.97542622",
        (0.6656419001, 0.6683699499, 0.6670059250, 9.748059e-04),
    ),
    (
        "elliptic",
        1.0,
        "-0.10756382 -0.98562193 -1.47860834  -1.07051688 -0.23589488 -1.37508828  -1.69653937 -1.50106653 -0.22214900",
        (0.4949129271, 0.4978915269, 0.4964022270, 5.629391e-06),
    ),
    (
        "euclidean",
        1.0,
        "-0.59160798 -0.98994949 -1.28840987  -1.37477271 -0.61644140 -1.59373775  -1.57797338 -1.69115345 -0.67823300",
        (0.6525962031, 0.6588913742, 0.6557437886, 1.404673e-03),
    ),
    (
        "euclidean-squared",
        1.0,
        "-0.35 -0.98 -1.66  -1.89 -0.38 -2.54  -2.49 -2.86 -0.46",
        (0.3598381134, 0.3772717722, 0.3685549428, 5.214502e-05),
    ),
    (
        "euclidean-inner",
        1.0,
        "0.54 0.60 0.08  0.37 1.50 0.24  -0.09 0.10 1.12",
        (0.6569882247, 0.6460674517, 0.6515278382, 2.159838e-01),
    ),
    (
        "lorentz",
        1.0,
        "-0.59261261 -1.11915400 -1.37280263  -1.42533364 -0.65680342 -1.72131169  -1.62273974 -1.85128045 -0.69567997",
        (0.6155723457, 0.6220926867, 0.6188325162, 3.329612e-04),
    ),
    (
        "lorentz-squared",
        1.0,
        "-0.35118971 -1.25250568 -1.88458706  -2.03157599 -0.43139074 -2.96291392  -2.63328425 -3.42723931 -0.48397061",
        (0.2959595331, 0.3124996989, 0.3042296160, 1.768054e-06),
    ),
    (
        "lorentz-inner",
        1.0,
        "-1.18079432 -1.69440919 -2.09989564  -2.19983677 -1.22356181 -2.88534492  -2.63215534 -3.26250207 -1.25190360",
        (0.4888689327, 0.5046201268, 0.4967445298, 3.095855e-04),
    ),
    (
        "lorentz",
        0.1,
        "-0.59170422 -1.00367739 -1.29796367  -1.38027297 -0.62000769 -1.60878250  -1.58322482 -1.71088284 -0.67982259",
        (0.6480184827, 0.6543836288, 0.6512010557, 1.193067e-03),
    ),
    (
        "lorentz-squared",
        0.1,
        "-0.35011389 -1.00736831 -1.68470970  -1.90515347 -0.38440953 -2.58818114  -2.50660082 -2.92712009 -0.46215876",
        (0.3520525866, 0.3694892233, 0.3607709050, 3.668303e-05),
    ),
    (
        "lorentz-inner",
        0.1,
        "-10.17556829 -10.50792667 -10.85424749  -10.96779648 -10.19282127 -11.32224365  -11.27969949 -11.49961033 -10.23197071",
        (0.6227692564, 0.6332836844, 0.6280264704, 3.315060e-03),
    ),
]


@pytest.mark.parametrize(("name", "curvature", "rows", "losses"), BATCH)
def test_batch_of_three_pairs(name, curvature, rows, losses):
    similarity = fixed(name, curvature=curvature).similarity(IMAGES, TEXTS)
    close(similarity.flatten(), [float(value) for value in rows.split()], tolerance=FEWER)
    assert contrastive(similarity) == pytest.approx(losses[:3], abs=DIGITS)
    assert contrastive(similarity, 1 / 0.07)[2] == pytest.approx(losses[3], rel=6e-7)


@pytest.mark.parametrize(
    ("name", "curvature", "min_radius", "angles", "apertures", "residuals", "mean"),
    [
        ("euclidean", 1.0, 0.1, (0.19842161, 0.62475387, 0.48504979), (0.20135792, 0.10016742, 0.12532783), (0, 0.52458645, 0.35972196), 0.2947694678),
        ("lorentz", 1.0, 0.1, (0.22639621, 0.83275525, 0.61825445), (0.39391548, 0.17101601, 0.22714661), (0, 0.66173924, 0.39110784), 0.3509490274),
        ("lorentz", 0.1, 0.1, (0.20117532, 0.64477527, 0.49793315), (1.57079633, 0.67134070, 0.89818792), (0, 0, 0), 0.0),
        ("lorentz", 10.0, 0.1, (0.52286382, 2.45775258, 1.90679262), (0.08603989, 0.01696289, 0.03207837), (0.43682393, 2.44078968, 1.87471425), 1.5841092892),
        ("euclidean", 1.0, 0.3, (0.19842161, 0.62475387, 0.48504979), (0.64350111, 0.30469265, 0.38439677), (0, 0.32006121, 0.10065301), 0.1402380757),
        ("lorentz", 1.0, 0.3, (0.22639621, 0.83275525, 0.61825445), (1.57079633, 0.53582534, 0.74177149), (0, 0.29692991, 0), 0.0989766377),
        ("lorentz", 0.1, 0.3, (0.20117532, 0.64477527, 0.49793315), (1.57079633, 1.57079633, 1.57079633), (0, 0, 0), 0.0),
        ("lorentz", 10.0, 0.3, (0.52286382, 2.45775258, 1.90679262), (0.26074591, 0.05090823, 0.09636769), (0.26211791, 2.40684435, 1.81042493), 1.4931290634),
    ],
)  # fmt: skip
def test_entailment_of_three_pairs(name, curvature, min_radius, angles, apertures, residuals, mean):
    geometry = fixed(name, curvature=curvature)
    close(geometry.exterior_angle(TEXTS, IMAGES), angles, tolerance=FEWER)
    close(geometry.half_aperture(TEXTS, min_radius), apertures, tolerance=FEWER)
    close(geometry.entailment(TEXTS, IMAGES, min_radius), residuals, tolerance=FEWER)
    close(geometry.entailment(TEXTS, IMAGES, min_radius).mean(), mean, tolerance=DIGITS)


def test_the_text_is_the_apex():
    swapped = fixed("euclidean").exterior_angle(IMAGES, TEXTS)
    close(swapped, (3.0507348730, 2.7527336653, 2.8786918702), tolerance=DIGITS)
    close(fixed("euclidean").entailment(IMAGES, TEXTS, 0), swapped)


def test_angles_reduce_over_the_last_axis():
    """A published filter took the norm over axis 1 of three-dimensional input; its values are known too."""
    angles = fixed("lorentz").exterior_angle(TEXTS[None], IMAGES[:, None])
    assert angles.shape == (3, 3)
    close(angles.diagonal(), (0.2263962054, 0.8327552497, 0.6182544514), tolerance=DIGITS)
    assert fixed("lorentz").half_aperture(TEXTS[None]).shape == (1, 3)
    assert fixed("lorentz").expmap0(TEXTS[None]).shape == (1, 3, 3)
    close(fixed("lorentz").expmap0(TEXTS[None])[0], fixed("lorentz").expmap0(TEXTS))
