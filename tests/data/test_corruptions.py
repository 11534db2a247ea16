"""Corruptions: their formulas, levels and seeds, and what a corrupted set keeps."""

import numpy as np
import pytest
import torch

from clipedu import load_pairs
from clipedu.data.corruptions import CORRUPTIONS, REFERENCE_SIZES, SEVERITIES, Corruption, corrupted
from clipedu.utils.errors import ClipeduError

ROWS = torch.arange(6)


@pytest.fixture(scope="module")
def scenes():
    return load_pairs("scenes", "val", size=6)


def picture(size=24, seed=0):
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed))


def apply(name, x, level):
    return CORRUPTIONS[name].apply(x, level, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corrupted_set_is_the_same_pairs_with_worse_pictures(name, scenes):
    clean, distances = scenes.pixels(ROWS), []
    for severity in SEVERITIES:
        worse = corrupted(scenes, name, severity)
        pixels = worse.pixels(ROWS)
        assert pixels.dtype == torch.uint8 and pixels.shape == clean.shape
        assert len(worse) == len(scenes) and worse.captions(3) == scenes.captions(3) and worse.split == scenes.split
        distances.append((pixels.float() - clean.float()).square().mean().item())
    assert distances[0] > 0 and distances == sorted(distances)
    assert torch.equal(clean, scenes.pixels(ROWS))


@pytest.mark.parametrize("name", ["gaussian_noise", "occlusion"])
def test_what_is_random_depends_on_seed_and_row_alone(name, scenes):
    whole = corrupted(scenes, name, 3).pixels(ROWS)
    assert torch.equal(corrupted(scenes, name, 3).pixels(torch.tensor([4, 1])), whole[[4, 1]])
    assert not torch.equal(corrupted(scenes, name, 3, seed=1).pixels(ROWS), whole)
    noise = whole.float() - scenes.pixels(ROWS).float()
    assert not torch.equal(noise[0], noise[1])


def test_the_fingerprint_and_identity_are_others(scenes):
    noisy = corrupted(scenes, "gaussian_noise", 2)
    assert noisy.fingerprint() != scenes.fingerprint()
    assert noisy.identity()["pictures"] != scenes.identity()["pictures"]
    assert noisy.identity()["captions"] == scenes.identity()["captions"]


def test_labels_and_prompts_stay():
    scored = load_pairs("scenes", "zeroshot", size=6)
    worse = corrupted(scored, "blur", 4)
    assert torch.equal(worse.labels, scored.labels) and worse.class_names == scored.class_names
    assert worse.templates == scored.templates and worse.name == "scenes-blur-4"


def test_noise_has_the_standard_deviation_of_its_level():
    noise = apply("gaussian_noise", torch.full((3, 100, 100), 0.5), 0.2) - 0.5
    assert noise.std().item() == pytest.approx(0.2, rel=0.02) and abs(noise.mean().item()) < 0.005


@pytest.mark.parametrize("sigma", [0.4, 1.0, 6.0])
def test_blur_is_scipys(sigma):
    from scipy.ndimage import gaussian_filter

    x = picture()
    right = gaussian_filter(x.double().numpy(), (0, sigma, sigma), mode="nearest", truncate=4)
    np.testing.assert_allclose(apply("blur", x, sigma).numpy(), right, atol=1e-5)


def test_a_blur_is_scaled_with_the_picture():
    blur = CORRUPTIONS["blur"]
    assert blur.level(5, 224) == 6 and blur.level(5, 448) == 12 and blur.level(1, 32) == 0.4
    assert CORRUPTIONS["gaussian_noise"].level(5, 448) == 0.38


@pytest.mark.parametrize("size, table", [(32, 0), (47, 0), (48, 1), (64, 1), (127, 1), (128, 2), (224, 2), (512, 2)])
def test_the_table_of_levels_goes_by_the_size(size, table):
    for found in CORRUPTIONS.values():
        for severity in SEVERITIES:
            scale = size / REFERENCE_SIZES[table] if found.scaled else 1
            assert found.level(severity, size) == pytest.approx(found.levels[table][severity - 1] * scale)


def test_each_has_five_levels_for_each_size():
    for found in CORRUPTIONS.values():
        assert isinstance(found, Corruption) and found.description and found.unit
        assert len(found.levels) == len(REFERENCE_SIZES) and all(len(levels) == 5 for levels in found.levels)


def test_brightness_keeps_hue_and_saturation():
    import colorsys

    x = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(1))
    x[:, 0, 0] = 0
    bright = apply("brightness", x, 0.2)
    for row in range(4):
        for column in range(4):
            hue, saturation, value = colorsys.rgb_to_hsv(*x[:, row, column].tolist())
            right = colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.2))
            assert bright[:, row, column].tolist() == pytest.approx(right, abs=1e-5)


def test_contrast_keeps_the_mean_and_a_share_of_the_deviations():
    x = picture()
    flat = apply("contrast", x, 0.3)
    assert torch.allclose(flat.mean((1, 2)), x.mean((1, 2)), atol=1e-6)
    assert torch.allclose(flat.std((1, 2)), 0.3 * x.std((1, 2)), atol=1e-6)


def test_jpeg_and_pixelation_are_pillows():
    import io

    from PIL import Image

    x = picture(32)
    image = Image.fromarray((x * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    file = io.BytesIO()
    image.save(file, "JPEG", quality=18)
    for name, level, right in (
        ("jpeg", 18, Image.open(file)),
        ("pixelation", 0.25, image.resize((8, 8), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)),
    ):
        assert torch.equal(
            (apply(name, x, level) * 255).round().to(torch.uint8).permute(1, 2, 0), torch.from_numpy(np.array(right))
        )
    blocks = apply("pixelation", x, 0.25).unfold(1, 4, 4).unfold(2, 4, 4)
    assert (blocks.amax((-1, -2)) == blocks.amin((-1, -2))).all()


@pytest.mark.parametrize("level", [0.05, 0.4, 1.0])
def test_an_occlusion_covers_its_share_inside_the_picture(level):
    covered = apply("occlusion", torch.zeros(3, 100, 100), level)[0] == 0.5
    assert covered.float().mean().item() == pytest.approx(level, abs=0.01)
    rows, columns = covered.any(1).nonzero(), covered.any(0).nonzero()
    assert covered[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gausian_noise", 1), "Did you mean 'gaussian_noise'"),
        (("blur", 0), "1 (slight) to 5 (strong), got 0"),
        (("blur", 6), "got 6"),
        (("blur", True), "got True"),
        (("blur", 2.5), "got 2.5"),
        (("blur", "3"), "got '3'"),
        ((["blur"], 3), "unknown corruption"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(words, message, scenes):
    with pytest.raises(ClipeduError) as error:
        corrupted(scenes, *words)
    assert message in str(error.value)


def test_a_seed_that_is_none(scenes):
    with pytest.raises(ClipeduError, match="seed of a corruption must be a whole number >= 0, got -1"):
        corrupted(scenes, "blur", 1, seed=-1)
