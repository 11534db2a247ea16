"""What all data sets share: tokens by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipedu.data.pairs import Pairs
from clipedu.utils.errors import ClipeduError

TEXTS = [["a bb", "ccc"], ["dddd e f"], ["g", "h i", "j k l"]]


class Toy(Pairs):
    name, image_size = "toy", 8

    def __init__(self, texts):
        self.texts = texts

    def __len__(self):
        return len(self.texts)

    def captions(self, row):
        return self.texts[row]


class Letters:
    """Numbers the words by their first letter: enough of a tokenizer for `Pairs`."""

    def encode(self, texts):
        ids = np.zeros((len(texts), 6), np.int32)
        lengths = np.array([len(text.split()) for text in texts], np.int32)
        for row, text in enumerate(texts):
            ids[row, : lengths[row]] = [ord(word[0]) for word in text.split()]
        return ids, lengths


def spelled(ids, mask):
    return ["".join(chr(letter) for letter in row[keep]) for row, keep in zip(ids, mask, strict=True)]


def test_the_first_caption_without_a_choice():
    ids, mask = Toy(TEXTS).tokenize(Letters()).tokens(torch.tensor([2, 0, 1, 0]))
    assert spelled(ids, mask) == ["g", "ab", "def", "ab"]
    assert (ids.dtype, mask.dtype, ids.shape, mask.shape) == (torch.int64, torch.bool, (4, 3), (4, 3))


def test_choice_goes_round_a_rows_own_captions():
    pairs = Toy(TEXTS).tokenize(Letters())
    for k in range(7):
        got = spelled(*pairs.tokens(torch.tensor([0, 1, 2]), torch.tensor([k, k, k])))
        assert got == [["ab", "c"][k % 2], "def", ["g", "hi", "jkl"][k % 3]]
    assert pairs.tokens(torch.tensor([0, 2]), torch.tensor([1, 0]))[0].shape == (2, 1)  # no longer than its longest


def test_all_tokens_know_their_row():
    ids, mask, row = Toy(TEXTS).tokenize(Letters()).all_tokens()
    assert spelled(ids, mask) == ["ab", "c", "def", "g", "hi", "jkl"] and row.tolist() == [0, 0, 1, 2, 2, 2]


def test_tokens_before_tokenize():
    for ask in (lambda pairs: pairs.tokens(torch.tensor([0])), lambda pairs: pairs.all_tokens()):
        with pytest.raises(ClipeduError, match="toy/train is not tokenized yet"):
            ask(Toy(TEXTS))


def test_rows_without_captions():
    with pytest.raises(ClipeduError, match="toy/train has no captions"):
        Toy([[], []]).tokenize(Letters())
    with pytest.raises(ClipeduError, match="no caption for row 1"):
        Toy([["a"], [], ["b"]]).tokenize(Letters())


def test_fingerprint_changes_with_what_it_is_of():
    other = Toy(TEXTS)
    other.image_size = 9
    prints = {
        Toy(TEXTS).fingerprint(),
        Toy(TEXTS[:2]).fingerprint(),
        Toy([["x"], *TEXTS[1:]]).fingerprint(),
        other.fingerprint(),
    }
    assert len(prints) == 4 and Toy(TEXTS).fingerprint() in prints


def test_a_set_that_says_nothing():
    for ask in (len, lambda pairs: pairs.pixels(torch.tensor([0])), lambda pairs: pairs.captions(0)):
        with pytest.raises(TypeError, match="Pairs"):
            ask(Pairs())


def test_captions_are_encoded_once_for_a_tokenizer_and_again_for_another():
    class Counting(Letters):
        calls = 0

        def encode(self, texts):
            Counting.calls += 1
            return super().encode(texts)

    pairs, one = Toy(TEXTS), Counting()
    assert pairs.tokenize(one).tokenize(one) is pairs and Counting.calls == 1
    pairs.tokenize(Counting())
    assert Counting.calls == 2


def test_cut_captions_are_told_once(caplog, tmp_path):
    from clipedu.data.tokenizer import train_tokenizer

    pairs = Toy([["a bb ccc dddd", "a"], ["a bb ccc"]])
    assert pairs.captions_cut is None
    tokenizer = train_tokenizer(["a bb ccc dddd"] * 3, 5)
    for cache in (None, tmp_path, tmp_path):  # encoded, then kept, then read
        pairs.cache = cache
        caplog.clear()
        pairs.tokenize(tokenizer).tokenize(tokenizer)
        assert caplog.messages == ["text_length=5 cuts 1 of 3 captions (33 %) of toy/train"] and pairs.captions_cut == 1
        pairs._tokenized = None
    many = Toy([["a"]] * 1500 + [["a bb ccc dddd"]]).tokenize(tokenizer)
    assert caplog.messages[1:] == ["text_length=5 cuts 1 of 1,501 captions (less than 1 %) of toy/train"]
    caplog.clear()
    assert Toy([["a bb"]]).tokenize(tokenizer).captions_cut == 0 and caplog.messages == [] and many.captions_cut == 1
