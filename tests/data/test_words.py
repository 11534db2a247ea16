"""Encoding word by word gives what the backend gives text by text."""

import json
import random

import numpy as np
import pytest
from tokenizers import AddedToken, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE, WordPiece

from clipedu.data import tokenizer as module
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.tokenizer import train_tokenizer
from clipedu.data.words import encode_words, word_ends

VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdeσ,.[]'",
    *(f"##{letter}" for letter in "abcdeσ"),
    "bad",
    "##ced",
    "猫",
]
ODD = [
    "",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\x00",
    "\x1c",
    "\x85",
    "\u00a0",
    "\u2028",
    "\u200b",
    "\ufffd",
    "\u0301",
    "\u0308a",
    "É",
    "e\u0301",
]
ODD += [
    "a,b",
    "Σ",
    "ΑΣ",
    "ΟΔΟΣ",
    "İ",
    "ß",
    "ﬁ",
    "猫",
    "a猫b",
    "[CLS]",
    "[MASK]",
    "x[MASK]y",
    "[ MASK ]",
    "##ced",
    "bad",
    "BADCED",
    "z",
]
ODD += ["a" * 99, "a" * 100, "a" * 101, "'", "...", "\U0001f600", "\ud7ff", "１２", "a\u0300\u0316\u0301b"]


def bert(**changes):
    backend = Backend(WordPiece({token: i for i, token in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=changes.pop("lowercase", True))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    for part, value in changes.items():
        setattr(backend, part, value)
    return backend


def whole(backend, texts, length, pad=0):
    """Encode text by text, as the backend does it."""
    backend.enable_truncation(length)
    backend.enable_padding(length=length, pad_id=pad, pad_token="[PAD]")
    encodings = [backend.encode(text) for text in texts]
    return np.array([e.ids for e in encodings]), np.array([bool(e.overflowing) for e in encodings])


def texts(count, seed=0):
    dice = random.Random(seed)
    made = [
        "".join(dice.choice(ODD) + dice.choice(["", " ", " ", "  "]) for _ in range(dice.randrange(9)))
        for _ in range(count)
    ]
    return [text.encode("utf-8", "ignore").decode() for text in made]


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("marks", [False, True], ids=["plain", "with marks"])
@pytest.mark.parametrize("length", [3, 5, 64])
def test_any_text_as_the_backend_encodes_it(lowercase, marks, length):
    backend = bert(lowercase=lowercase)
    if marks:
        backend.add_special_tokens(["[CLS]", "[SEP]", "[MASK]"])
        backend.add_tokens([AddedToken("ced", lstrip=True, rstrip=True), AddedToken("bad", single_word=True)])
    made = texts(1500)
    expected, cut = whole(backend, made, length)
    ids, counts = encode_words(backend, made, length, word_ends(backend), 0)
    assert (ids == expected).all()
    assert ((counts > length) == cut).all()
    assert cut.any() or length == 64


def test_processor_of_bert_itself():
    backend = bert(post_processor=processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)))
    assert word_ends(backend) == (2, 3)
    ids, _ = encode_words(backend, ["bad  cat", ""], 6, (2, 3), 0)
    assert (ids == whole(backend, ["bad  cat", ""], 6)[0]).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"model": BPE({"a": 0}, [], unk_token="a")},
        {"normalizer": normalizers.Sequence([normalizers.BertNormalizer(), normalizers.Strip()])},
        {"pre_tokenizer": pre_tokenizers.Metaspace()},
        {"post_processor": processors.TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", 3)])},
        {
            "post_processor": processors.TemplateProcessing(
                single="[CLS] [CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
            )
        },
        {"post_processor": processors.TemplateProcessing(single="$A", special_tokens=[])},
    ],
    ids=["model", "normalizer", "splitter", "no first", "two first", "no ends"],
)
def test_other_tokenizers_are_left_to_the_backend(changes):
    assert word_ends(bert(**changes)) is None


def test_a_token_with_a_space_is_left_to_the_backend():
    backend = bert()
    backend.add_tokens(["a b"])
    assert word_ends(backend) is None


def test_a_tokenizer_gives_the_same_rows_both_ways(monkeypatch):
    scenes = Scenes("train", 300)
    captions = [caption for row in range(300) for caption in scenes.captions(row)] + texts(200)
    tokenizer = train_tokenizer(captions, 12)
    monkeypatch.setattr(module, "_CHUNK", 700)
    ids, lengths = tokenizer.encode(captions)
    truncated = tokenizer.truncated
    monkeypatch.setattr(module, "_MANY", 10**9)
    expected, expected_lengths = tokenizer.encode(captions)
    assert ids.dtype == expected.dtype == lengths.dtype == expected_lengths.dtype == np.int32
    assert (ids == expected).all() and (lengths == expected_lengths).all()
    assert truncated == tokenizer.truncated > 0
    assert json.loads(tokenizer.tokenizer.backend_tokenizer.to_str())["model"]["type"] == "WordPiece"
