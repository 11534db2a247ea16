"""`ReleasedTokenizer`: a model's own tokenizer, for captions.

    open_clip       its byte-pair encoding in Python, or a tokenizer of transformers behind its own cleaning of the text
    transformers    fast tokenizers, and slow ones (SentencePiece) that clean in Python

Texts go through the library's own call, so the ids are its own; here are added what a data set needs: which texts are cut, and a
hash of all that the ids depend on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipedu.utils.errors import ClipeduError, quoted
from clipedu.utils.hub import quiet

_CHUNK = 10_000  # texts at a time
_SPECIAL = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
_VERSION = 1  # raise it when `encode` comes out differently


class ReleasedTokenizer:
    """Captions to fixed-length rows of token ids.

    Args:
        rows: the library's call: texts -> ids [T, length], padded, and how many of each are no padding, [T].
        whole: a text -> the number of its tokens, uncut.
        length: tokens a caption, the special ones included.
        vocab_size: rows of the model's table of tokens.
        pad_id: the id that fills up short captions.
        special_tokens: ids by name, as those of `clipedu.data.tokenizer.Tokenizer`.
        facts: all that the ids depend on, besides; JSON can hold it.
        library: the tokenizer of its library.
    Attributes:
        length, vocab_size, pad_id, special_tokens, library: see above.
        truncated: how many texts of the last `encode` were cut.
    """

    def __init__(
        self,
        rows: Callable[[list[str]], tuple[np.ndarray, np.ndarray]],
        whole: Callable[[str], int],
        *,
        length: int,
        vocab_size: int,
        pad_id: int,
        special_tokens: Mapping[str, int | None],
        facts: Sequence[Any],
        library: Any = None,
    ):
        self.library = library
        self._rows, self._whole, self._facts = rows, whole, facts
        self.length, self.vocab_size, self.pad_id = length, vocab_size, pad_id
        self.special_tokens, self.truncated = dict(special_tokens), 0

    def encode(self, texts: Sequence[str], strict: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return token ids, int32 [T, length], and lengths, int32 [T].

        Lengths include special tokens, not padding behind them, and are at least 1.

        Args:
            texts: T texts.
            strict: raise an error for a text that is too long, instead of cutting it.
        Raises:
            ClipeduError: one text instead of a list, a token that the model does not have, or, if `strict`, a text that is
                too long.
        """
        if isinstance(texts, str):
            raise ClipeduError(f"encode takes a list of texts, not one text: write [{texts[:40]!r}]")
        ids = np.empty((len(texts), self.length), np.int32)
        lengths = np.empty(len(texts), np.int32)
        self.truncated = 0
        for start in range(0, len(texts), _CHUNK):
            part = [str(text) for text in texts[start : start + _CHUNK]]
            rows = slice(start, start + len(part))
            with quiet():  # transformers warns of each long text
                ids[rows], own = self._rows(part)
                lengths[rows] = np.maximum(own, 1)
                full = np.flatnonzero(lengths[rows] >= self.length - 1)  # one less: an end that is padding, too
                cut = [int(row) for row in full if self._whole(part[row]) > self.length]
            if strict and cut:
                raise ClipeduError(
                    f"text {start + cut[0]} has {self._whole(part[cut[0]])} tokens, the limit is {self.length}, special tokens "
                    f"included: shorten {part[cut[0]][:60]!r}"
                )
            self.truncated += len(cut)
        if len(ids) and ids.max() >= self.vocab_size:
            row = int(np.flatnonzero((ids >= self.vocab_size).any(1))[0])
            raise ClipeduError(
                f"the tokenizer makes token {ids[row].max()} of {texts[row][:60]!r}, and the model has {self.vocab_size}: the "
                "tokenizer is another model's"
            )
        return ids, lengths

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens of ids, as the library's vocabulary writes them."""
        inner = self.library if hasattr(self.library, "convert_ids_to_tokens") else _inner(self.library)
        if inner is not None:
            return inner.convert_ids_to_tokens([int(number) for number in ids])
        return [self.library.decoder[int(number)].removesuffix("</w>") for number in ids]

    def identity(self) -> str:
        """Return a hash of all that `encode` depends on."""
        facts = [_VERSION, self.length, self.vocab_size, self.pad_id, *self._facts]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def of_transformers(
    tokenizer: Any, *, length: int, vocab_size: int, name: str, right: bool = True
) -> ReleasedTokenizer:
    """Wrap a tokenizer of transformers, fast or slow.

    Args:
        tokenizer: as `AutoTokenizer` loads it.
        length: tokens a caption, at most as many as model and tokenizer read.
        vocab_size: of the model.
        name: of the model, for messages.
        right: pad behind the text; False pads where the tokenizer does.
    Raises:
        ClipeduError: it has no token to pad with, or one that the model does not have; no place for a word.
    """
    pad = tokenizer.pad_token_id
    check_pad(pad, vocab_size, name)
    check_room(len(tokenizer("")["input_ids"]), length, name)
    call = _OfTransformers(tokenizer, length, "right" if right else tokenizer.padding_side)
    return ReleasedTokenizer(
        call.rows,
        call.whole,
        length=length,
        vocab_size=vocab_size,
        pad_id=pad,
        special_tokens={token: getattr(tokenizer, f"{token}_token_id", None) for token in _SPECIAL},
        facts=[call.side, *_facts(tokenizer)],
        library=tokenizer,
    )


@dataclass(frozen=True)
class _OfTransformers:
    """The calls of a tokenizer of transformers; a class, so that other processes can be given it."""

    tokenizer: Any
    length: int
    side: str

    def rows(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        read = self.tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=self.length,
            padding_side=self.side,
            return_attention_mask=True,
        )
        ids, mask = np.array(read["input_ids"], np.int32), np.array(read["attention_mask"], np.int32)
        return ids, mask.sum(1) if self.side == "right" else np.full(len(ids), self.length)

    def whole(self, text: str) -> int:
        return len(self.tokenizer(text)["input_ids"])


def check_pad(pad: int | None, vocab_size: int, name: str) -> None:
    """Check the token that fills up short texts.

    Args:
        pad: its id; None where the tokenizer has none.
        vocab_size: of the model.
        name: of the model, for messages.
    Raises:
        ClipeduError: there is none, or the model does not have it.
    """
    if pad is None:
        raise ClipeduError(
            f"{name}: its tokenizer has no pad token, so texts of several lengths make no batch: set pad_token in its "
            "tokenizer_config.json, or tokenizer.pad_token, to the one it was trained with"
        )
    if not 0 <= pad < vocab_size:
        raise ClipeduError(
            f"{name}: its tokenizer's pad token is number {pad}, and the model has {vocab_size} tokens: the tokenizer is another model's, or "
            "pad_token in its tokenizer_config.json is not a token of it"
        )


def check_room(marks: int, length: int, name: str) -> None:
    """Check that a text has a place for a word.

    Args:
        marks: tokens that the tokenizer adds to each text.
        length: tokens that a text may have, those included.
        name: of the model, for messages.
    Raises:
        ClipeduError: it has none.
    """
    if marks >= length:
        raise ClipeduError(
            f"{name}: a text of at most {length} tokens has no place for a word, as the tokenizer adds {marks}: mend the length in the "
            "settings of tokenizer (model_max_length) or model"
        )


def of_open_clip(tokenizer: Any, *, vocab_size: int, pad_id: Any, name: str) -> ReleasedTokenizer:
    """Wrap a tokenizer of open_clip.

    Args:
        tokenizer: as `open_clip.get_tokenizer` makes it, with its `context_length`.
        vocab_size: of the model.
        pad_id: that fills up its rows; None where it has none.
        name: of the model, for messages.
    Raises:
        ClipeduError: the tokenizer of transformers inside has no token to pad with, or one that the model does not have.
    """
    inner = _inner(tokenizer)
    check_pad(pad_id if inner is None or inner.pad_token_id is not None else None, vocab_size, name)

    call = _OfOpenClip(tokenizer, inner, pad_id)
    check_room(call.whole(""), tokenizer.context_length, name)
    cleaning = [repr(getattr(getattr(tokenizer, key, None), "__name__", None)) for key in ("clean_fn", "reduction_fn")]
    how = [getattr(tokenizer, key, None) for key in ("tokenizer_mode", "strip_sep_token")]
    own = sorted(tokenizer.encoder.items()) if inner is None else _facts(inner)
    return ReleasedTokenizer(
        call.rows,
        call.whole,
        length=tokenizer.context_length,
        vocab_size=vocab_size,
        pad_id=pad_id,
        special_tokens=_marks(tokenizer, inner),
        facts=[type(tokenizer).__name__, *cleaning, *how, own],
        library=tokenizer,
    )


@dataclass(frozen=True)
class _OfOpenClip:
    """The calls of a tokenizer of open_clip; `inner` is that of transformers in it, if any."""

    tokenizer: Any
    inner: Any
    pad_id: Any

    def rows(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids = self.tokenizer(texts).numpy().astype(np.int32)
        used = ids != self.pad_id
        return ids, np.where(used.any(1), ids.shape[1] - used[:, ::-1].argmax(1), 0)

    def whole(self, text: str) -> int:
        if self.inner is None:
            return len(self.tokenizer.encode(text)) + 2
        own = getattr(self.tokenizer, "tokenizer_mode", "") == "clips"  # which has three special tokens of its own
        text = self.tokenizer.clean_fn(text)
        return len(self.inner(text, add_special_tokens=not own)["input_ids"]) + 3 * own


def _inner(tokenizer: Any) -> Any:
    """Return the tokenizer of transformers inside one of open_clip; None where it has its own byte-pair encoding."""
    return getattr(tokenizer, "tokenizer", None)


def _marks(tokenizer: Any, inner: Any) -> dict[str, int | None]:
    """Return the special tokens of a tokenizer of open_clip, by name."""
    if inner is not None:
        return {token: getattr(inner, f"{token}_token_id", None) for token in _SPECIAL}
    return {"bos": getattr(tokenizer, "sot_token_id", None), "eos": getattr(tokenizer, "eot_token_id", None)}


def _facts(tokenizer: Any) -> list[Any]:
    """Return what the ids of a tokenizer of transformers depend on, as JSON can hold it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:  # without what a call has set in it
        state = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
    else:
        state = [type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()), quoted(tokenizer.init_kwargs, 10_000)]
    return [state, tokenizer.pad_token_id, tokenizer.truncation_side]
