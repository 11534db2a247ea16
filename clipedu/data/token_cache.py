"""Tokens on disk: captions that were turned into numbers once are read from a file the next time.

The name of the file is a hash of the tokenizer, its length included, and of the captions themselves. So a file cannot belong
to other captions, in whatever folder it is: who finds one with the right name has the right tokens.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np


def kept(folder: Path, tokenizer: Any, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """What `tokenizer.encode(texts)` gives: from the folder, or made now and written there if that can be done.

    Args:
        tokenizer: a `clipedu.data.tokenizer.Tokenizer`; its `truncated` is set, as by `encode`.
        texts: T texts.
    Returns:
        token ids, int32 [T, length], and lengths, int32 [T].
    """
    file = folder / f"tokens-{_key(tokenizer, texts)}.npz"
    with suppress(Exception):  # not there, or damaged, which can fail in many ways inside numpy and zipfile
        with np.load(file) as there:
            ids, lengths, truncated = there["ids"], there["lengths"], int(there["truncated"])
        if ids.shape == (len(texts), tokenizer.length) and lengths.shape == (len(texts),):
            tokenizer.truncated = truncated
            return ids.astype(np.int32), lengths

    ids, lengths = tokenizer.encode(texts)
    small = ids.astype(np.uint16) if tokenizer.vocab_size <= 2**16 else ids
    partial = folder / f".{uuid.uuid4().hex[:8]}.tokens"
    try:
        with partial.open("wb") as stream:
            np.savez(stream, ids=small, lengths=lengths, truncated=tokenizer.truncated)
            os.fsync(stream.fileno())
        partial.replace(file)
    except OSError:  # a full disk, or a cache that can only be read: the tokens are there all the same
        with suppress(OSError):
            partial.unlink()
    return ids, lengths


def _key(tokenizer: Any, texts: Sequence[str]) -> str:
    digest = hashlib.sha256(tokenizer.identity().encode())
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]
