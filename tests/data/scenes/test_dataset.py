"""The embedded data set: the same everywhere, evenly spread, truly captioned, with one right answer."""

import dataclasses
import hashlib

import numpy as np
import pytest
import torch

from clipedu.data.scenes import dataset, sampling
from clipedu.data.scenes.attributes import Attributes
from clipedu.data.scenes.captions import LEVELS, PLACES, RELATIONS, Dice, Meaning, holds, meanings
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.scenes.drawing import BACKGROUNDS, COLOURS, SHAPES, SIZES, draw
from clipedu.data.scenes.sampling import sample
from clipedu.utils.errors import ClipeduError

# Mean grey of the quarters of the first three pictures of each split, as first drawn.
THUMBNAILS = [
    [104.0, 158.0, 96.0, 148.0, 106.0, 117.0, 163.0, 165.0, 130.0, 130.0, 130.0, 130.0],
    [163.0, 168.0, 107.0, 115.0, 84.0, 81.0, 81.0, 81.0, 93.0, 139.0, 96.0, 154.0],
    [79.0, 82.0, 80.0, 80.0, 174.0, 173.0, 174.0, 170.0, 161.0, 110.0, 135.0, 92.0],
]
WORDS = "f62e65d7502bbb5a"
FIRST = "there is a small violet star in the bottom right corner on a gradient"


@pytest.fixture(scope="module")
def train():
    return Scenes("train", 2000)


@pytest.fixture(scope="module")
def val():
    return Scenes("val")


def equal(a: Attributes, b: Attributes) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))


# ---- the same everywhere


def splitmix(x: int) -> int:
    """The finalizer of SplitMix64, in plain integers."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def test_the_hash_is_splitmix_in_64_bits():
    numbers = [0, 1, 2, 12345, 2**62 + 17, 2**63 - 1]
    mixed = sampling._mix(torch.tensor(numbers))
    assert [int(m) % 2**64 for m in mixed] == [splitmix(n) for n in numbers]


def test_a_scene_does_not_depend_on_the_others():
    rows = torch.tensor([17, 3, 999_999, 17])
    few, many = sample(4, "train", rows), sample(4, "train", torch.arange(1_000_000 - 5, 1_000_000))
    assert equal(few[2:3], many[4:5]) and equal(few[0:1], few[3:4])


@pytest.mark.parametrize("split", sampling.SPLITS)
def test_a_smaller_set_is_the_beginning_of_a_larger_one(split):
    small, large = Scenes(split, 60), Scenes(split, 300)
    assert torch.equal(small.pixels(torch.arange(60)), large.pixels(torch.arange(60)))
    assert [small.captions(row) for row in range(60)] == [large.captions(row) for row in range(60)]
    assert [small.chain(row) for row in range(60)] == [large.chain(row) for row in range(60)]
    assert split != "zeroshot" or torch.equal(small.labels, large.labels[:60])


def test_kept_and_freshly_drawn_pixels_are_the_same(monkeypatch):
    index = torch.tensor([5, 0, 299, 5])
    kept = Scenes("train", 300)
    monkeypatch.setattr(dataset, "CACHE_BYTES", 0)
    fresh = Scenes("train", 300)
    assert torch.equal(kept.pixels(index), fresh.pixels(index))
    assert fresh._cache is None
    kept.pixels(index).zero_()
    assert kept.pixels(index).max() > 0  # what is handed out can be written to


def test_seed_split_and_row_each_give_other_scenes():
    base = sample(0, "train", torch.arange(500))
    for other in (
        sample(1, "train", torch.arange(500)),
        sample(0, "val", torch.arange(500)),
        base[torch.arange(499, -1, -1)],
    ):
        agree = (base.shape == other.shape).double().mean()
        assert 0.04 < agree < 0.16  # a tenth by chance


def test_pixels_and_words_of_version_1():
    """These change only together with `VERSION`: then old and new runs don't compare."""
    assert sampling.VERSION == 1
    train, val, zeroshot = Scenes("train", 8), Scenes("val", 8), Scenes("zeroshot", 8)
    thumbnails = [
        torch.nn.functional.avg_pool2d(s.pixels(torch.arange(3)).float().mean(1), 16) for s in (train, val, zeroshot)
    ]
    assert torch.allclose(torch.stack(thumbnails).flatten(1).round(), torch.tensor(THUMBNAILS), atol=1.01)
    words = [caption for s in (train, val) for row in range(8) for caption in s.captions(row) + s.chain(row)]
    assert hashlib.sha256("\n".join(words).encode()).hexdigest()[:16] == WORDS
    assert train.captions(0)[0] == FIRST


def test_fingerprint_says_what_the_set_is_without_drawing_it():
    prints = [Scenes(*what).fingerprint() for what in [("train", 50), ("train", 51), ("val", 50), ("train", 50, 64)]]
    prints += [Scenes("train", 50, seed=1).fingerprint()]
    assert len(set(prints)) == 5
    assert Scenes("train", 50).fingerprint() == prints[0]


# ---- what is in them


def test_every_value_of_every_attribute_is_about_equally_frequent():
    n = 20_000
    scenes = sample(0, "train", torch.arange(n))
    two, one = scenes[scenes.count == 2], scenes[scenes.count == 1]
    assert len(two) / n == pytest.approx(0.6, abs=0.02)
    columns = [(SHAPES, scenes.shape[:, 0]), (SHAPES, two.shape[:, 1]), (COLOURS, scenes.colour[:, 0])]
    columns += [(COLOURS, two.colour[:, 1]), (SIZES, scenes.size[:, 0]), (SIZES, two.size[:, 1])]
    columns += [(RELATIONS, two.relation), (PLACES, one.place[:, 0]), (BACKGROUNDS, scenes.background)]
    for names, values in columns:
        p, total = 1 / len(names), len(values)
        counts = torch.bincount(values, minlength=len(names)).double()
        assert len(counts) == len(names)
        assert ((counts - total * p).abs() < 5 * (total * p * (1 - p)) ** 0.5).all(), names


def test_attributes_are_independent_of_one_another():
    scenes = sample(0, "train", torch.arange(20_000))
    columns = [
        scenes.count,
        scenes.shape[:, 0],
        scenes.colour[:, 0],
        scenes.size[:, 0],
        scenes.size[:, 1],
        scenes.background,
    ]
    columns += [
        scenes.noise,
        scenes.pattern_angle,
        scenes.angle[:, 0],
        scenes.rgb[:, 0].sum(1) - scenes.rgb[:, 0].mean(),
    ]
    table = np.corrcoef(torch.stack([c.double() for c in columns[:-1]]).numpy())
    np.fill_diagonal(table, 0)
    assert np.abs(table).max() < 5 / 20_000**0.5
    both = scenes.shape[:, 0] * 10 + scenes.colour[:, 0]
    counts = torch.bincount(both, minlength=100).double()
    assert ((counts - 200) ** 2 / 200).sum() < 99 + 5 * (2 * 99) ** 0.5  # chi squared


def test_two_objects_differ_in_shape_and_colour_and_stand_as_the_relation_says():
    scenes = sample(0, "train", torch.arange(5000))
    scenes = scenes[scenes.count == 2]
    assert (scenes.shape[:, 0] != scenes.shape[:, 1]).all() and (scenes.colour[:, 0] != scenes.colour[:, 1]).all()
    dx, dy = (scenes.centre[:, 0] - scenes.centre[:, 1]).T
    along = torch.where(scenes.relation < 2, dx, dy)
    across = torch.where(scenes.relation < 2, dy, dx)
    first_is_less = torch.tensor([name in ("left of", "above") for name in RELATIONS])[scenes.relation]
    assert ((along < 0) == first_is_less).all()
    assert (across.abs() <= 0.36 * along.abs()).all()
    assert (along.abs() >= scenes.radius.sum(1)).all()


def test_places_are_a_grid_of_thirds_with_clear_margins():
    scenes = sample(0, "train", torch.arange(5000))
    scenes = scenes[scenes.count == 1]
    x, y = scenes.centre[:, 0].T
    for name, low, high in (("left", 0, 0.31), ("right", 0.69, 1), ("top", 0, 0.31), ("bottom", 0.69, 1)):
        said = torch.tensor([name in place for place in PLACES])[scenes.place[:, 0]]
        where = x if name in ("left", "right") else y
        assert (said == ((where > low) & (where < high))).all()


# ---- what is said about them


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_caption_is_true_of_its_image(split):
    pairs = Scenes(split, 400)
    for row in range(len(pairs)):
        for claim in {claim for claim, _ in pairs.claims(row)}:
            assert holds(claim, pairs.attributes[row : row + 1]).all(), (row, claim)


def test_a_val_caption_is_true_of_one_val_image_alone(val):
    for row in range(len(val)):
        for claim in {claim for claim, _ in val.claims(row)}:
            assert holds(claim, val.attributes).nonzero().flatten().tolist() == [row]


def test_val_leaves_out_only_scenes_that_would_be_ambiguous(monkeypatch):
    """Against a naive walk, in a small world where descriptions often coincide."""

    def small_world(*what):
        scenes = sample(*what)
        few = {name: getattr(scenes, name) % 2 for name in ("shape", "colour", "size", "background")}
        return dataclasses.replace(scenes, **few)

    stream = small_world(0, "val", torch.arange(150))
    claims, kept = meanings(stream), []
    true = torch.stack([holds(claim, stream) for claim in claims])  # [claim, scene]
    for row in range(len(stream)):
        if not true[row, kept].any() and not true[kept, row].any():
            kept.append(row)
    assert 20 < len(kept) < 120
    monkeypatch.setattr(sampling, "sample", small_world)
    assert sampling.distinct_rows(0, "val", len(kept)).tolist() == kept


def test_val_has_five_different_paraphrases_some_of_them_inverted(val):
    for row in range(len(val)):
        captions, claims = val.captions(row), [claim for claim, _ in val.claims(row)]
        assert len(set(captions)) == len(captions) == 5
        whole = meanings(val.attributes[row : row + 1])[0]
        assert claims[0] == whole and None not in (whole.shape, whole.colour, whole.size, whole.background)
        assert claims[1] == (whole if whole.relation is None else whole.inverted())


def test_train_captions_are_mostly_specific_and_at_every_level(train):
    said = [sum(value is not None for value in claim) for row in range(len(train)) for claim, _ in train.claims(row)]
    assert min(said) == 0 and {0, 1, 2, 3} < set(said)
    full = [claim.background is not None for row in range(len(train)) for claim, _ in train.claims(row)]
    assert 0.45 < np.mean(full) < 0.55
    assert all(len(train.captions(row)) == 5 for row in range(50))
    assert all(train.claims(row)[0][0].background is not None for row in range(50))  # the one `tokens` takes by default


@pytest.mark.parametrize("split", sampling.SPLITS)
def test_a_chain_is_nested_from_everything_to_this_scene(split):
    pairs = Scenes(split, 200)
    others = sample(9, "train", torch.arange(3000))
    for row in range(0, 200, 4):
        chain = pairs.chain_meanings(row)
        assert len(chain) == len(pairs.chain(row)) == LEVELS == len(set(pairs.chain(row)))
        for scenes in (pairs.attributes, others):
            true = torch.stack([holds(meaning, scenes) for meaning in chain])
            assert true[0].all()
            assert (true[1:] <= true[:-1]).all()
        sizes = true.sum(1).tolist()
        assert sizes[0] == 3000 > sizes[1] > sizes[2] and sizes[2] < 150
        assert all(holds(meaning, pairs.attributes[row : row + 1]).all() for meaning in chain)
        for generic, specific in zip(chain, chain[1:], strict=False):
            assert all(a is None or a == b for a, b in zip(generic, specific, strict=True)) and generic != specific


def test_the_captions_of_many_scenes_use_every_word_for_a_thing(train):
    text = " ".join(caption for row in range(len(train)) for caption in train.captions(row))
    for word in [
        *SHAPES,
        *COLOURS,
        *SIZES,
        "disc",
        "hoop",
        "violet",
        "turquoise",
        "tiny",
        "beneath",
        "chequerboard",
        "an arrow",
    ]:
        assert word in text
    assert "a arrow" not in text and "{" not in text and "None" not in text and "  " not in text


def test_captions_can_be_tokenized(train):
    class Words:
        def encode(self, texts):
            return np.ones((len(texts), 4), dtype=np.int32), np.full(len(texts), 3)

    pairs = Scenes("train", 6).tokenize(Words())
    ids, mask, rows = pairs.all_tokens()
    assert ids.shape == (30, 3) and mask.all() and torch.equal(rows, torch.arange(6).repeat_interleave(5))


# ---- zero-shot


def test_zeroshot_labels_say_what_is_in_the_one_object():
    pairs = Scenes("zeroshot")
    assert len(pairs.class_names) == len(set(pairs.class_names)) == 100
    assert pairs.labels.dtype == torch.int64 and pairs.labels.shape == (len(pairs),)
    assert (pairs.attributes.count == 1).all()
    for row in range(0, len(pairs), 7):
        colour, shape = pairs.class_names[pairs.labels[row]].split()
        claim = Meaning(shape=list(SHAPES).index(shape), colour=list(COLOURS).index(colour))
        assert holds(claim, pairs.attributes[row : row + 1]).all()
    assert pairs.captions(0) == [] == pairs.claims(0)


def test_zeroshot_classes_are_equally_frequent_and_the_rest_varies():
    pairs = Scenes("zeroshot", 2000)
    assert (torch.bincount(pairs.labels) == 20).all()
    assert len(Scenes("zeroshot", 100).labels.unique()) == 100
    assert (
        len(Scenes("zeroshot", 10).labels.div(10, rounding_mode="floor").unique()) >= 8
    )  # shapes, even in a small set
    scenes = pairs.attributes
    for values, n in ((scenes.size[:, 0], 3), (scenes.place[:, 0], 9), (scenes.background, 5)):
        assert (torch.bincount(values, minlength=n) > 2000 / n * 0.75).all()


def test_templates_make_sentences():
    for template in Scenes.templates:
        assert template.count("{}") == 1
        for name in Scenes("zeroshot", 1).class_names:
            assert "a " + name in template.format(name) and name[0] not in "aeiou"


# ---- the contract


def test_defaults_shapes_and_types(val):
    assert [len(Scenes(split)) for split in ("train", "val", "zeroshot")] == [16_000, 1_000, 1_000]
    assert (val.name, val.split, val.image_size) == ("scenes", "val", 32)
    pixels = val.pixels(torch.tensor([3, 1, 2]))
    assert pixels.dtype == torch.uint8 and pixels.shape == (3, 3, 32, 32) and pixels.device.type == "cpu"
    assert Scenes("train", 5).labels is None
    assert Scenes("train", 3, image_size=224).pixels(torch.tensor([2])).shape == (1, 3, 224, 224)


def test_pixels_are_those_of_draw(val):
    rows = torch.tensor([4, 900])
    assert torch.equal(val.pixels(rows), draw(val.attributes[rows], 32))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(split="test"), ["test", "train", "val", "zeroshot"]),
        (dict(size=0), ["0", "at least 1"]),
        (dict(size=-3), ["-3"]),
        (dict(image_size=31), ["31", "32", "224"]),
        (dict(image_size=256), ["256", "224"]),
        (dict(split="val", size=10**6), ["1000000", "50000"]),
    ],
)
def test_errors_say_what_was_given_and_what_is_allowed(options, words):
    with pytest.raises(ClipeduError) as error:
        Scenes(**options)
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)


@pytest.mark.parametrize("seed", [0, -1, 2**40, 2**80])
def test_any_integer_is_a_seed(seed):
    assert len(Scenes("train", 3, seed=seed).captions(2)) == 5


def test_level_dice_keep_the_level_1_choice_of_a_chain_fixed():
    meaning = Meaning(1, 2, 0, place=3, background=1)
    assert meaning.at_level(1, Dice(0)) == Meaning(shape=1) and meaning.at_level(1, Dice(1)) == Meaning(colour=2)
