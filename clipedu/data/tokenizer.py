"""Tokenizers: captions to rows of token ids.

A caption of up to `length` tokens becomes one row of ids: [CLS], its word pieces, [SEP], and padding. What doesn't fit
is cut off before [SEP]. `encode` works on the tokenizer's Rust backend, of many captions with each
word once (`words.py`), and is done once a data set (`Pairs.tokenize`).

There are three ways to get a tokenizer: train one on the captions (needs no network), take the text model's own from the
Hugging Face Hub, or load one from the folder in which it was saved. A tokenizer whose `clean` is set cleans every text that it
encodes (`clipedu.data.cleaning`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import numpy as np

from clipedu.data.cleaning import cleaned
from clipedu.data.words import encode_words, word_ends
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import read_json, reported, write_json
from clipedu.utils.hub import quiet, reachable
from clipedu.utils.importing import importing
from clipedu.utils.interrupts import interruptible
from clipedu.utils.schema import Anything, Choice, Object

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENS_VERSION = 1  # raise it when `encode` or `clean_caption` comes out differently
WORD_LETTERS = 100  # a longer word becomes [UNK], as in BERT
_MANY = 100  # texts: from so many on each distinct word is encoded once
_CHUNK = 20_000  # captions at a time: the backend's result takes about 100 times the memory of the ids


class Tokenizer:
    """Captions to fixed-length rows of token ids.

    Args:
        tokenizer: a fast tokenizer of transformers.
        length: tokens a caption, the special ones included.
    Attributes:
        length: see above.
        vocab_size: how many different ids there are.
        pad_id: the id that fills up short captions.
        special_tokens: ids by "pad", "unk", "cls", "sep", "mask", "bos" and "eos"; None for a token that it has not. Where it
            has no token for the beginning of a text, [CLS] is that, and [SEP] is the end.
        truncated: how many texts of the last `encode` were cut.
        clean: how texts are cleaned first (`cleaned`): False, True or "web"; False unless it is set.
    Raises:
        ClipeduError: a length that is too short for any word or longer than the model's limit, an empty vocabulary, or a
            tokenizer that marks neither the beginning nor the end of a text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, length: int):
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else every later fork prints a warning
        if not 3 <= length <= tokenizer.model_max_length:
            limit = f" and at most {tokenizer.model_max_length}" if length > 3 else ""
            raise ClipeduError(f"a length of {length} tokens cannot be used: give at least 3{limit}")
        if len(tokenizer) <= len(SPECIAL):
            raise ClipeduError(f"the tokenizer has only {len(tokenizer)} tokens: its vocabulary file is missing")
        self.tokenizer = tokenizer
        if len(self._whole("")) == 0:
            raise ClipeduError("the tokenizer adds no [CLS] or [SEP] to a text: take one of a BERT-like text model")
        if tokenizer.pad_token is None and tokenizer.eos_token is None:
            raise ClipeduError(
                "the tokenizer has no token to pad with, neither pad_token nor eos_token: choose another text model, or set "
                "pad_token in its tokenizer_config.json"
            )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.length, self.vocab_size, self.pad_id = length, len(tokenizer), tokenizer.pad_token_id
        self.special_tokens = {
            token: getattr(tokenizer, f"{token}_token_id", None)
            for token in ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
        }
        for token, other in (("bos", "cls"), ("eos", "sep"), ("cls", "bos"), ("sep", "eos")):
            if self.special_tokens[token] is None:
                self.special_tokens[token] = self.special_tokens[other]
        self.truncated, self.clean = 0, cast("bool | str", False)

    def encode(self, texts: Sequence[str], strict: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return token ids, int32 [T, length], and lengths, int32 [T].

        Lengths include special tokens, not padding.

        Args:
            texts: T texts.
            strict: raise an error for a text that is too long, instead of cutting it.
        Raises:
            ClipeduError: one text instead of a list, or, if `strict`, a text that is too long.
        """
        if isinstance(texts, str):
            raise ClipeduError(f"encode takes a list of texts, not one text: write [{texts[:40]!r}]")
        texts = cleaned(texts, self.clean)
        self.truncated = 0
        parts = [self._encode(texts[start : start + _CHUNK], start, strict) for start in range(0, len(texts), _CHUNK)]
        ids = np.concatenate([np.empty((0, self.length), np.int32), *(part[0] for part in parts)])
        lengths = np.concatenate([np.empty(0, np.int32), *(part[1] for part in parts)])
        return ids, lengths

    def _encode(self, texts: Sequence[str], first: int, strict: bool) -> tuple[np.ndarray, np.ndarray]:
        """Encode a part of the texts, those from number `first` on."""
        backend = self.tokenizer.backend_tokenizer
        ends = self._word_ends if len(texts) >= _MANY else None
        if ends is not None:
            ids, whole = encode_words(backend, texts, self.length, ends, self.pad_id)
            lengths, cut = np.minimum(whole, self.length).astype(np.int32), np.flatnonzero(whole > self.length)
        else:
            backend.enable_truncation(self.length)
            backend.enable_padding(length=self.length, pad_id=self.pad_id, pad_token=self.tokenizer.pad_token)
            encodings = backend.encode_batch_fast(list(texts))
            ids = np.array([encoding.ids for encoding in encodings], np.int32).reshape(-1, self.length)
            lengths = np.array([sum(encoding.attention_mask) for encoding in encodings], np.int32)
            cut = np.flatnonzero([bool(encoding.overflowing) for encoding in encodings])
        if strict and len(cut):
            raise self._too_long(first + int(cut[0]), texts[cut[0]])
        self.truncated += len(cut)
        return ids, lengths

    @cached_property
    def _word_ends(self) -> tuple[int, int] | None:
        return word_ends(self.tokenizer.backend_tokenizer)

    def _too_long(self, row: int, text: str) -> ClipeduError:
        return ClipeduError(
            f"text {row} has {len(self._whole(text))} tokens, the limit is {self.length}, special tokens included: "
            f"shorten {text[:60]!r}"
        )

    def _whole(self, text: str) -> list[int]:
        """Return the ids of one text, neither cut nor padded."""
        self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.backend_tokenizer.no_padding()
        return self.tokenizer.backend_tokenizer.encode(text).ids

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens of ids, as the vocabulary writes them."""
        return list(self.tokenizer.convert_ids_to_tokens([int(number) for number in ids]))

    def identity(self) -> str:
        """Return a hash of all that `encode` depends on."""
        self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.backend_tokenizer.no_padding()
        backend = self.tokenizer.backend_tokenizer.to_str()
        facts = [TOKENS_VERSION, backend, self.length, self.tokenizer.pad_token, self.pad_id, self.clean]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def save(self, folder: str | os.PathLike) -> None:
        """Write the tokenizer to a folder that `Tokenizer.load` reads.

        Its length and `clean` are kept too.

        Raises:
            ClipeduError: it cannot be written.
        """
        folder = Path(folder)
        self.tokenizer.model_max_length = self.length
        with reported(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=".", suffix=".partial", dir=folder) as partial:
                self.tokenizer.save_pretrained(partial)
                write_json(folder / "captions.json", {"clean": self.clean})
                for file in sorted(Path(partial).iterdir(), reverse=True):  # tokenizer.json last: `load` needs it
                    file.replace(folder / file.name)

    @classmethod
    @importing()
    def load(cls, folder: str | os.PathLike) -> Tokenizer:
        """Load the tokenizer that `save` wrote to a folder.

        Raises:
            ClipeduError: there is none, or it is damaged.
        """
        from transformers import PreTrainedTokenizerFast

        if not (Path(folder) / "tokenizer.json").is_file():
            raise ClipeduError(f"{folder} holds no tokenizer.json: give a folder in which a tokenizer was saved")
        try:
            with quiet():
                tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
            loaded = cls(tokenizer, tokenizer.model_max_length)
            loaded.encode([""])  # a setting that cannot be used shows only now
        except ClipeduError:
            raise
        except Exception as error:  # noqa: BLE001  the backend raises bare Exceptions for a damaged file
            raise ClipeduError(
                f"the tokenizer in {folder} cannot be read ({_first_line(error)}): save it again"
            ) from None
        kept = Object(optional={"clean": Choice((False, True, "web"))}, others=Anything())
        loaded.clean = read_json(Path(folder) / "captions.json", kept).get("clean", False)
        return loaded


def train_tokenizer(captions: Iterable[str], length: int, vocab_size: int = 8192) -> Tokenizer:
    """Train a lower-casing WordPiece tokenizer on captions.

    The same captions give the same tokenizer. Words of more than 100 letters, which it will read as [UNK], are left out: the time
    that the backend takes grows with the square of a word's length.

    Args:
        captions: the texts to learn from.
        length: tokens a caption, [CLS] and [SEP] included.
        vocab_size: the most entries of the vocabulary; few captions fill fewer.
    Raises:
        ClipeduError: no captions, or too small a vocabulary for the letters in them.
    """
    with importing():
        from tokenizers import Tokenizer as Backend
        from tokenizers import models, normalizers, pre_tokenizers, processors, trainers
        from transformers import PreTrainedTokenizerFast

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    longer = re.compile(rf"(?:\S|[\x0b\x0c\x1c-\x1f\x85]){{{WORD_LETTERS + 1}}}")  # these the normalizer deletes

    def bounded(caption: str) -> str:
        """Leave out over-long words; a caption without any is returned as it is."""
        if not longer.search(caption):
            return caption
        words = [word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(caption))]
        return " ".join(word for word in words if len(word) <= WORD_LETTERS)

    captions = list(captions)
    words = set().union(*(caption.split(" ") for caption in captions))
    if any(longer.search(word) for word in words):
        captions = [bounded(caption) for caption in captions]
        words = set(captions)
    every = set().union(*map(normalizer.normalize_str, words))
    letters = sorted(letter for letter in every if not letter.isspace())
    needed = len(SPECIAL) + 2 * len(letters)
    if not letters or vocab_size < needed:
        why = "there are no captions" if not letters else f"their {len(letters)} characters need at least {needed}"
        raise ClipeduError(f"no tokenizer with vocab_size={vocab_size} can be trained: {why}")

    def backend(model: models.WordPiece) -> Backend:
        tokenizer = Backend(model)
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
        return tokenizer

    # The trainer numbers "##a", "##b", ... in the order of a hash table, and breaks ties by number: two runs would differ.
    # Given to it as fixed first entries they have the same numbers each time.
    learner = backend(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=WORD_LETTERS))
    fixed = [*SPECIAL, *(f"##{letter}" for letter in letters)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=fixed, show_progress=False
    )
    interruptible(lambda: learner.train_from_iterator(captions, trainer))

    trained = backend(
        models.WordPiece(vocab=learner.get_vocab(), unk_token="[UNK]", max_input_chars_per_word=WORD_LETTERS)
    )
    ends = [(token, learner.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    trained.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL}
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=trained, **names), length)


@importing()
def hub_tokenizer(model_name: str, length: int) -> Tokenizer:
    """Load a text model's own tokenizer.

    It is read from this machine if it was loaded before, else from the Hugging Face Hub.

    Args:
        model_name: of the text model on the Hub, or its folder.
        length: tokens a caption, the special ones included.
    Raises:
        ClipeduError: it is not on this machine and the Hub cannot be reached or doesn't have it, or it has no fast tokenizer.
    """
    from huggingface_hub import constants
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(model_name, local_files_only=True)
        except (OSError, ValueError, ImportError):
            if constants.HF_HUB_OFFLINE or not reachable(constants.ENDPOINT):
                why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} cannot be reached"
                raise ClipeduError(
                    f"the tokenizer of {model_name!r} is not on this machine and {why}: load it once with a network, "
                    "set HF_HOME to a folder that has it, or train one on the captions"
                ) from None
            try:
                tokenizer = AutoTokenizer.from_pretrained(model_name)
            except (OSError, ValueError, ImportError) as error:
                raise ClipeduError(
                    f"the tokenizer of {model_name!r} cannot be loaded ({_first_line(error)}): "
                    'check the name on the hub, e.g. "distilbert-base-uncased"'
                ) from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ClipeduError(f"{model_name!r} has no fast tokenizer (tokenizer.json): choose another text model")
    return Tokenizer(tokenizer, length)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
