"""Captions to tokens, and the course's caption cleaning."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clipedu.data.tokenizer import Tokenizer, hub_tokenizer, train_tokenizer
from clipedu.utils.errors import ClipeduError

WORDS = [
    "a",
    "the",
    "small",
    "red",
    "green",
    "dog",
    "cat",
    "sits",
    "runs",
    "under",
    "near",
    "tree",
    "jumping",
    "jumped",
]


def captions(count=400):
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 9))).capitalize() + "." for _ in range(count)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(captions(), 8, vocab_size=200)


def test_a_row_is_cls_words_sep_and_padding(tokenizer):
    ids, lengths = tokenizer.encode(["A red DOG", ""])
    words = tokenizer.tokenizer.convert_ids_to_tokens(ids[0])
    assert words == ["[CLS]", "a", "red", "dog", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]
    assert tokenizer.tokenizer.convert_ids_to_tokens(ids[1])[:3] == ["[CLS]", "[SEP]", "[PAD]"]
    assert lengths.tolist() == [5, 2] and (ids[0, 5:] == tokenizer.pad_id).all()
    assert (ids.dtype, lengths.dtype, ids.shape) == (np.int32, np.int32, (2, 8))


def test_attributes(tokenizer):
    assert (tokenizer.length, tokenizer.pad_id) == (8, 0)
    assert tokenizer.vocab_size == len(tokenizer.tokenizer.get_vocab()) <= 200
    assert sorted(tokenizer.tokenizer.get_vocab().values()) == list(range(tokenizer.vocab_size))


def test_long_texts_are_cut_before_sep_and_counted(tokenizer):
    long, short = "a red dog sits near the small blue tree", "a red dog sits near the"
    ids, lengths = tokenizer.encode([long, short, short, long])
    assert tokenizer.truncated == 2 and lengths.tolist() == [8, 8, 8, 8]
    assert np.array_equal(ids[0], ids[1])
    tokenizer.encode([short])
    assert tokenizer.truncated == 0


def test_strict_names_the_text(tokenizer):
    long = "a red dog sits near the small blue tree"
    tokenizer.encode(["a dog", "a cat"], strict=True)
    with pytest.raises(ClipeduError, match=r"text 1 has 11 tokens, the limit is 8, .*'a red dog"):
        tokenizer.encode(["a dog", long, long], strict=True)
    assert tokenizer.encode([long])[1].tolist() == [8]  # the error leaves the tokenizer as it was


def test_empty_list_and_single_text(tokenizer):
    ids, lengths = tokenizer.encode([])
    assert ids.shape == (0, 8) and lengths.shape == (0,)
    with pytest.raises(ClipeduError, match="list of texts"):
        tokenizer.encode("a red dog")


def test_chunks_join(tokenizer, monkeypatch):
    texts = captions(50)
    whole = tokenizer.encode(texts)
    cut = tokenizer.truncated
    monkeypatch.setattr("clipedu.data.tokenizer._CHUNK", 7)
    for one, other in zip(whole, tokenizer.encode(texts), strict=True):
        assert np.array_equal(one, other)
    assert tokenizer.truncated == cut > 0


def test_known_letters_in_unknown_words_are_pieces_not_unknown(tokenizer):
    ids, _ = tokenizer.encode(["gelt"])
    pieces = tokenizer.tokenizer.convert_ids_to_tokens(ids[0], skip_special_tokens=True)
    assert "".join(piece.removeprefix("##") for piece in pieces) == "gelt"
    assert "[UNK]" in tokenizer.tokenizer.convert_ids_to_tokens(tokenizer.encode(["gelt \u4e2d"])[0][0])


def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert (again.length, again.vocab_size, again.pad_id) == (tokenizer.length, tokenizer.vocab_size, tokenizer.pad_id)
    for one, other in zip(tokenizer.encode(captions(60)), again.encode(captions(60)), strict=True):
        assert np.array_equal(one, other)
    assert again.truncated == tokenizer.truncated > 0


def test_load_what_is_not_there_or_damaged(tokenizer, tmp_path):
    with pytest.raises(ClipeduError, match="tokenizer.json"):
        Tokenizer.load(tmp_path / "none")
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ClipeduError) as error:
        Tokenizer.load(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_vocabulary_that_is_missing_is_noticed(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    saved["model"]["vocab"] = {token: i for i, token in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))}
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    with pytest.raises(ClipeduError, match="only 5 tokens"):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_without_marks_is_refused(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    saved["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(saved))
    with pytest.raises(ClipeduError, match=r"\[CLS\]"):
        Tokenizer.load(tmp_path)


def test_special_tokens(tokenizer):
    assert tokenizer.special_tokens == {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4, "bos": 2, "eos": 3}


@pytest.mark.parametrize("load", [Tokenizer.load, lambda folder: hub_tokenizer(str(folder), 8)])
def test_a_tokenizer_that_cannot_pad_is_refused(tokenizer, tmp_path, load):
    tokenizer.save(tmp_path)
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**saved, "pad_token": None}))
    with pytest.raises(ClipeduError, match="no token to pad with, neither pad_token nor eos_token"):
        load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**saved, "pad_token": None, "eos_token": "[SEP]"}))
    assert load(tmp_path).pad_id == load(tmp_path).special_tokens["pad"] == 3


@pytest.mark.parametrize("length", [2, 0, -1])
def test_too_short(length):
    with pytest.raises(ClipeduError, match=f"length of {length} tokens"):
        train_tokenizer(["a dog"], length)


def test_train_needs_captions_and_room():
    with pytest.raises(ClipeduError, match="no captions"):
        train_tokenizer([], 8)
    with pytest.raises(ClipeduError, match="vocab_size=10 .* 4 characters need at least 13"):
        train_tokenizer(["a dog"], 8, vocab_size=10)


def test_training_twice_gives_the_same_tokenizer():
    """The trainer's own numbering is that of a hash table with a random seed: left alone, no two of these would agree."""
    texts = [*captions(), "xyzzy frobnicate quux", "jumping jumper jumped jumps"]
    vocabularies = [train_tokenizer(texts, 8, vocab_size=150).tokenizer.get_vocab() for _ in range(4)]
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)


LONG = {
    "letters": "x" * 200_000,
    "deleted controls between": "x\x1c" * 100_000,
    "zero width between": "x\u200b" * 100_000,
    "letters that fall apart": "\ud55c" * 100_000,
    "without spaces": "abcdefghij" * 20_000,
}


@pytest.mark.timeout(120)  # of one word of 200,000 letters the backend alone would train for some ten minutes
@pytest.mark.parametrize("word", LONG.values(), ids=LONG)
def test_an_over_long_word_is_left_out(word):
    texts = captions()
    plain = train_tokenizer([*texts, "a dog, !"], 8, vocab_size=200).tokenizer.get_vocab()
    assert train_tokenizer([*texts, word, f"a dog, {word}!"], 8, vocab_size=200).tokenizer.get_vocab() == plain
    tokenizer = train_tokenizer([*texts, f"the cat {word} the cat"], 8, vocab_size=200)
    pieces = tokenizer.tokenizer.convert_ids_to_tokens(tokenizer.encode([f"a {word} dog"])[0][0])
    assert pieces == ["[CLS]", "a", "[UNK]", "dog", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]


def test_a_word_of_100_letters_is_learned():
    word = "ab" * 50
    vocabulary = train_tokenizer([word] * 5, 8, vocab_size=400).tokenizer.get_vocab()
    assert word in vocabulary
    assert not any(
        "abab" in entry for entry in train_tokenizer([f"{word}a c"] * 5, 8, vocab_size=400).tokenizer.get_vocab()
    )


def test_hub_tokenizer_from_a_folder(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = hub_tokenizer(str(tmp_path), 6)
    assert (again.length, again.vocab_size) == (6, tokenizer.vocab_size)
    assert np.array_equal(again.encode(["a red dog"])[0], tokenizer.encode(["a red dog"])[0][:, :6])
    with pytest.raises(ClipeduError, match="at least 3 and at most 8"):
        hub_tokenizer(str(tmp_path), 9)


def test_hub_that_cannot_be_reached(monkeypatch, capfd):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # a port nobody listens on
    with pytest.raises(ClipeduError) as error:
        hub_tokenizer("no-such-maker/no-such-model", 30)
    text = str(error.value)
    assert "no-such-maker/no-such-model" in text and "127.0.0.1:9" in text and "train one" in text and "\n" not in text
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ClipeduError, match="HF_HUB_OFFLINE is set"):
        hub_tokenizer("no-such-maker/no-such-model", 30)


@pytest.mark.parametrize("changes", [{"model_max_length": 10**400}, {"model_max_length": 1}, {"pad_token": 3}])
def test_settings_that_cannot_be_used_are_one_line(tmp_path, changes):
    train_tokenizer(["a red circle"] * 3, 12).save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ClipeduError):
        Tokenizer.load(tmp_path)


def test_a_damaged_note_on_cleaning_is_named(tmp_path):
    train_tokenizer(["a red circle"] * 3, 12).save(tmp_path)
    (tmp_path / "captions.json").write_text('{"clean": "yes"}')
    with pytest.raises(
        ClipeduError, match="captions.json cannot be read: field 'clean' is 'yes', expected one of false, true, .web."
    ):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_cleans_as_it_is_set(tokenizer, tmp_path):
    plain = tokenizer.encode(["a red & green dog"])[0]
    assert not np.array_equal(tokenizer.encode(["a red &amp; green dog"])[0], plain)
    web = Tokenizer(tokenizer.tokenizer, 8)
    web.clean = "web"
    assert np.array_equal(web.encode(["a  red &amp;amp; green\ndog"])[0], plain)
    assert len({web.identity(), tokenizer.identity()}) == 2
    web.save(tmp_path)
    assert Tokenizer.load(tmp_path).clean == "web"
