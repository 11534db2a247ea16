"""The token cache: encoded once, of one tokenizer and of these captions, and whatever is in the file."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from clipedu.data import token_cache as tokens
from clipedu.data.shards.dataset import Shards
from clipedu.data.tokenizer import Tokenizer, train_tokenizer
from tests.helpers.cached_shards import (
    fsync_raising_at,
)
from tests.helpers.shard_maker import make_shards

pytestmark = pytest.mark.usefixtures("cache_home")


@pytest.fixture
def texts():
    return [f"picture {i}" + ", said once more" * k for i in range(6) for k in range(5)]


def no_encoding(*args):
    raise AssertionError("encoded again")


def test_tokens_are_encoded_once(tmp_path, texts, monkeypatch):
    folder = make_shards(tmp_path / "toy", 6, captions=5)
    tokenizer = train_tokenizer(texts, 8)
    first = Shards(folder, image_size=8).tokenize(tokenizer).all_tokens()
    cut, tokenizer.truncated = tokenizer.truncated, 0
    assert cut > 0
    monkeypatch.setattr(Tokenizer, "encode", no_encoding)
    second = Shards(folder, image_size=8).tokenize(train_tokenizer(texts, 8)).all_tokens()
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(first, second, strict=True))
    pairs = Shards(folder, image_size=8).tokenize(tokenizer)
    assert tokenizer.truncated == cut and (pairs._tokenized.ids.dtype, pairs._tokenized.lengths.dtype) == (
        np.int32,
        np.int32,
    )


def test_tokens_are_of_one_tokenizer_and_of_these_captions(tmp_path, texts):
    folder = make_shards(tmp_path / "toy", 6, captions=5)
    one, longer, other, cleaned = (
        train_tokenizer(t, n) for t, n in ((texts, 8), (texts, 9), (texts[:3], 8), (texts, 8))
    )
    cleaned.clean = True
    for tokenizer in (one, longer, other, cleaned):
        for size in (None, 4):
            pairs = Shards(folder, image_size=8, size=size).tokenize(tokenizer)
            ids, lengths = tokenizer.encode([text for row in range(len(pairs)) for text in pairs.captions(row)])
            assert np.array_equal(pairs._tokenized.ids, ids) and np.array_equal(pairs._tokenized.lengths, lengths)
    assert len(list(pairs.cache.glob("tokens-*.npz"))) == 8
    assert len({tokenizer.identity() for tokenizer in (one, longer, other, cleaned)}) == 4


def test_damaged_tokens_are_made_again(tmp_path, texts):
    tokenizer = train_tokenizer(texts, 8)
    ids, lengths = tokens.encode_cached(tmp_path, tokenizer, texts)
    (file,) = tmp_path.iterdir()
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    for trial in range(100):
        data = bytearray(whole)
        for place in rng.integers(len(whole), size=3):
            data[place] ^= rng.integers(1, 256)
        file.write_bytes(data if trial % 2 else data[: rng.integers(len(data))])
        again = tokens.encode_cached(tmp_path, tokenizer, texts)
        assert np.array_equal(again[0], ids) and np.array_equal(again[1], lengths), trial
    assert list(tmp_path.iterdir()) == [file]


def test_texts_are_told_apart_by_where_they_end(tmp_path, texts):
    tokenizer = train_tokenizer(texts, 8)
    for pair in (["picture 1", "2"], ["picture 12", ""], ["picture 1 2"]):
        assert np.array_equal(tokens.encode_cached(tmp_path, tokenizer, pair)[0], tokenizer.encode(pair)[0])
    assert len(list(tmp_path.iterdir())) == 3


def test_tokens_without_a_place_to_keep_them(tmp_path, texts, monkeypatch):
    tokenizer = train_tokenizer(texts, 8)
    expected = tokenizer.encode(texts)
    (tmp_path / "file").write_text("not a folder")
    got = tokens.encode_cached(tmp_path / "file", tokenizer, texts)
    assert np.array_equal(got[0], expected[0]) and np.array_equal(got[1], expected[1])
    monkeypatch.setattr(os, "fsync", fsync_raising_at(1, OSError))
    (tmp_path / "full").mkdir()
    assert np.array_equal(tokens.encode_cached(tmp_path / "full", tokenizer, texts)[0], expected[0])
    assert list((tmp_path / "full").iterdir()) == []


def test_large_vocabularies_are_kept_whole(tmp_path):
    class Large:
        length, vocab_size, truncated = 2, 2**17, 0

        def identity(self):
            return "large"

        def encode(self, texts):
            return np.full((len(texts), 2), 2**17 - 1, np.int32), np.full(len(texts), 2, np.int32)

    for _ in range(2):
        assert tokens.encode_cached(tmp_path, Large(), ["a", "b"])[0].tolist() == [[2**17 - 1] * 2] * 2
