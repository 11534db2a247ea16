"""Tokenizers of released models: ids, lengths, what is cut, and their identity."""

from __future__ import annotations

import numpy as np
import pytest

from clipedu import ClipeduError, adopt
from clipedu.data.token_cache import encode_cached
from clipedu.interop import released_tokenizer
from clipedu.interop.released_tokenizer import of_open_clip, of_transformers
from tests.helpers.released import LENGTH, word_tokenizer

pytestmark = pytest.mark.xdist_group("interop")
TEXTS = [
    "",
    "a red star",
    "red " * 13,
    "red " * 14,
    "red " * 15,
    "red " * 16,
    "a red star! " * 9,
    "!",
    "star " * 13 + "!",
]


@pytest.fixture(scope="module")
def simple():
    import open_clip

    inner = open_clip.SimpleTokenizer(context_length=LENGTH)
    return inner, of_open_clip(inner, vocab_size=49408, pad_id=0, name="mine")


def words(pad: str = "</s>", **options):
    inner = word_tokenizer(None, "</s>", pad)
    return inner, of_transformers(inner, length=LENGTH, vocab_size=len(inner), name="mine", **options)


def check(read, inner, whole) -> None:
    """Rows, lengths and cuts against the library's own, text by text."""
    ids, lengths = read.encode(TEXTS)
    assert ids.dtype == lengths.dtype == np.int32 and ids.shape == (len(TEXTS), LENGTH)
    assert read.truncated == sum(whole(text) > LENGTH for text in TEXTS)
    for row, text in enumerate(TEXTS):
        assert lengths[row] == max(1, min(whole(text), LENGTH)) or (ids[row, lengths[row] :] == read.pad_id).all()
        if whole(text) > LENGTH:
            with pytest.raises(
                ClipeduError, match=f"^text 0 has {whole(text)} tokens, the limit is 16, special tokens included"
            ):
                read.encode([text], strict=True)
        else:
            read.encode([text], strict=True)
    assert [len(part) for part in read.encode([])] == [0, 0]


def test_open_clips_own(simple):
    inner, read = simple
    check(read, inner, lambda text: len(inner.encode(text)) + 2)
    assert np.array_equal(read.encode(TEXTS)[0], inner(TEXTS).numpy())


@pytest.mark.parametrize("pad", ["<pad>", "</s>"])
@pytest.mark.parametrize("right", [True, False])
def test_transformers(pad, right):
    """Where the end is the padding, too, as SigLIP has it, a text of exactly the length is not cut."""
    inner, read = words(pad, right=right)
    check(read, inner, lambda text: len(inner(text)["input_ids"]))
    theirs = inner(TEXTS, padding="max_length", truncation=True, max_length=LENGTH)["input_ids"]
    assert np.array_equal(read.encode(TEXTS)[0], theirs)


def test_padding_before_the_text():
    inner, _ = words("<pad>")
    inner.padding_side = "left"
    left, right = (
        of_transformers(inner, length=LENGTH, vocab_size=99, name="m", right=right) for right in (False, True)
    )
    (ids,), lengths = left.encode(["red star"])
    assert ids[0] == left.pad_id and ids[-1] == inner.eos_token_id and lengths.tolist() == [LENGTH]
    (ids,), lengths = right.encode(["red star"])
    assert ids[-1] == right.pad_id and lengths.tolist() == [3] and left.identity() != right.identity()


def test_texts_in_parts_are_the_same(simple, monkeypatch):
    _, read = simple
    whole = read.encode(TEXTS)
    cut = read.truncated
    monkeypatch.setattr(released_tokenizer, "_CHUNK", 2)
    for one, other in zip(read.encode(TEXTS), whole, strict=True):
        assert np.array_equal(one, other)
    assert read.truncated == cut
    with pytest.raises(ClipeduError, match="^text 5 has 18 tokens"):
        read.encode(["red"] * 5 + ["red " * 16], strict=True)


def test_identity_is_of_all_that_the_ids_depend_on(simple):
    import open_clip

    inner, read = simple
    before = read.identity()
    read.encode(TEXTS)
    assert read.identity() == before == of_open_clip(inner, vocab_size=49408, pad_id=0, name="other").identity()
    longer = open_clip.SimpleTokenizer(context_length=LENGTH + 1)
    cleaned = open_clip.SimpleTokenizer(context_length=LENGTH, clean="canonicalize")
    several = {of_open_clip(t, vocab_size=49408, pad_id=0, name="m").identity() for t in (inner, longer, cleaned)}
    first, second = words()[1], words("<pad>")[1]
    before = first.identity()
    first.encode(["red " * 30])  # which sets truncation and padding in the library's own
    assert first.identity() == before
    assert len(several | {first.identity(), second.identity()}) == 5


def test_tokens_are_kept_in_the_cache_of_a_set(simple, tmp_path):
    _, read = simple
    ids, lengths = encode_cached(tmp_path, read, TEXTS)
    cut, read.truncated = read.truncated, 0
    again = encode_cached(tmp_path, read, TEXTS)
    assert np.array_equal(again[0], ids) and np.array_equal(again[1], lengths) and read.truncated == cut
    assert len(list(tmp_path.iterdir())) == 1


def test_texts_behind_open_clips_cleaning(released, tmp_path):
    """A tokenizer of transformers inside open_clip: lower case, no punctuation, and its end is the padding."""
    from open_clip.tokenizer import HFTokenizer

    word_tokenizer(None, "</s>", "</s>").save_pretrained(tmp_path)
    inner = HFTokenizer(str(tmp_path), context_length=LENGTH, clean="canonicalize")
    read = of_open_clip(inner, vocab_size=99, pad_id=inner.tokenizer.pad_token_id, name="mine")
    ids, lengths = read.encode(["A, RED star!", "red " * 15, "red " * 16])
    assert np.array_equal(ids, inner(["A, RED star!", "red " * 15, "red " * 16]).numpy())
    assert lengths.tolist() == [3, 15, 15] and read.truncated == 1
    inner.tokenizer.pad_token = None
    with pytest.raises(ClipeduError, match="^mine: its tokenizer has no pad token"):
        of_open_clip(inner, vocab_size=99, pad_id=0, name="mine")


def test_what_cannot_be_encoded(released):
    read = adopt(released("clip")[0]).tokenizer
    with pytest.raises(ClipeduError, match=r"encode takes a list of texts, not one text: write \['a red'\]"):
        read.encode("a red")
    assert read.special_tokens["eos"] == read.special_tokens["pad"] == read.pad_id


def test_pieces_are_those_of_the_library(simple):
    inner, own = simple
    ids, lengths = own.encode(["a red stargazer"])
    pieces = own.pieces(ids[0, : lengths[0]])
    assert pieces[0] == "<start_of_text>" and pieces[-1] == "<end_of_text>"
    assert "".join(pieces[1:-1]) == "aredstargazer"
    marks = {number for number in own.special_tokens.values() if number is not None}
    assert marks == {inner.sot_token_id, inner.eot_token_id}
    inner, own = words()
    assert own.pieces(own.encode(["a red star"])[0][0, :4]) == ["a", "red", "star", "</s>"]
