"""Identity: equal for equal contents, another one for anything that a model would see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipedu.data.identity import changes, content_digest, digest_captions, digest_rows, summary
from clipedu.data.pairs import Pairs
from clipedu.data.scenes import dataset
from clipedu.data.scenes.dataset import Scenes


class Own(Pairs):
    """A set as users write them: pixels and captions, nothing else."""

    name = "own"

    def __init__(self, rows=5, seed=0, size=8):
        self.image_size = size
        self.images = torch.randint(256, (rows, 3, size, size), generator=torch.Generator().manual_seed(seed)).byte()
        self.texts = [[f"caption {row}", "another"] for row in range(rows)]

    def __len__(self):
        return len(self.images)

    def pixels(self, index):
        return self.images[index]

    def captions(self, row):
        return self.texts[row]


def test_digests():
    assert content_digest(b"a") == content_digest(memoryview(b"a")) != content_digest(b"b")
    assert digest_rows([b"a", b"b"]).shape == (2, 16) and digest_rows([]).shape == (0, 16)
    assert len(summary(digest_rows([b"a"]))) == 32
    texts = (["ab", "c"], ["a", "bc"], ["abc"], ["ab\nc"], ["c", "ab"], [])
    assert len({digest.tobytes() for digest in digest_captions(texts)}) == 6
    assert len(digest_captions([["half a pair \ud800"]])) == 1


def test_a_set_of_a_user_is_known_by_what_is_in_it():
    pairs = Own()
    before = pairs.identity()
    assert not changes(before, Own().identity()) and set(before) == {"rows", "image_size", "pictures", "captions"}
    pairs.images[4, 2, 7, 7] ^= 1  # in place, in the same object
    assert changes(before, pairs.identity()) == ["the pictures"]
    pairs.texts[0][1] = "others"
    assert changes(before, pairs.identity()) == ["the pictures", "the captions"]
    assert changes(before, Own(4).identity()) == ["the number of pairs (it was 5, now it is 4)"]
    assert changes(before, Own(size=9).identity()) == ["the image size (it was 8, now it is 9)"]
    swapped = Own()
    swapped.images = swapped.images.flip(0)
    assert changes(before, swapped.identity()) == ["the pictures"], "the order counts"
    assert changes(before, Own().identity() | {"more": 1}) == [] == changes({}, before)


def test_reading_in_chunks_changes_nothing(monkeypatch):
    whole = Own(50).picture_digests()
    monkeypatch.setattr("clipedu.data.pairs.CHUNK_BYTES", 3 * 64 * 7)
    assert np.array_equal(Own(50).picture_digests(), whole) and len({row.tobytes() for row in whole}) == 50


def test_labels_and_names_of_classes_count():
    pairs = Own()
    pairs.labels, pairs.class_names = torch.arange(5), list("abcde")
    before = pairs.identity()
    pairs.class_names = list("abdce")
    assert changes(before, pairs.identity()) == ["the classes"]


def test_captions_are_those_that_were_tokenized():
    class Letters:
        def encode(self, texts):
            return np.ones((len(texts), 1), np.int32), np.ones(len(texts), np.int32)

    pairs = Own()
    expected = pairs.caption_digests()
    pairs.tokenize(Letters())
    assert np.array_equal(pairs.caption_digests(), expected)
    pairs.captions = None  # they are not made again
    assert np.array_equal(pairs.caption_digests(), expected)


@pytest.mark.parametrize(("levels", "found"), [(1, []), (-1, []), (12, ["the pictures"])])
def test_scenes_of_another_machine_and_of_another_drawing_code(monkeypatch, levels, found):
    before = Scenes("train", 50).identity()
    real = dataset.draw

    def other(attributes, size):
        pixels = real(attributes, size).int()
        pixels[..., 10:20, 10:20] += levels
        return pixels.clamp(0, 255).byte()

    monkeypatch.setattr(dataset, "draw", other)
    now = Scenes("train", 50).identity()
    assert before["pictures"] != now["pictures"] and changes(before, now) == found
    assert Scenes("train", 50).fingerprint() == Scenes("train", 50).fingerprint()
