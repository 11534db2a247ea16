"""The embedded data set: the same everywhere, evenly spread, truly captioned, with one right answer."""

import hashlib

import numpy as np
import pytest
import torch

from clipedu.data.scenes import dataset, sampling
from clipedu.data.scenes.captions import LEVELS, Dice, Meaning, holds, meanings
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.scenes.drawing import COLOURS, SHAPES, SIZES, draw
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


# ---- the same everywhere


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


def test_captions_are_kept_once_said_and_nobody_can_change_them():
    scenes = Scenes("train", 20)
    first = scenes.captions(3)
    first.append("a mistake")
    for row in (3, torch.tensor(3), np.int64(3)):
        assert scenes.captions(row) == first[:-1] == [caption for _, caption in scenes.claims(3)]
    assert list(scenes._said) == [3]
