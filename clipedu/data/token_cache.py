"""The token cache: tokenize once, then read from a file.

The name of the file is a hash of the tokenizer, its length included, and of the captions. So a file with the right name
holds the right tokens, in whatever folder it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import atomic_write


def encode_cached(folder: Path, tokenizer: Any, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return `tokenizer.encode(texts)`, from the cache if it is there.

    Otherwise the texts are encoded now, and written there if possible.

    Args:
        folder: where the file is, or is written.
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
    # A full disk, or a cache that can only be read, is no error here: the tokens are returned all the same.
    with suppress(ClipeduError), atomic_write(file, sync=True) as partial, partial.open("wb") as stream:
        np.savez(stream, ids=small, lengths=lengths, truncated=tokenizer.truncated)
    return ids, lengths


def _key(tokenizer: Any, texts: Sequence[str]) -> str:
    digest = hashlib.sha256(tokenizer.identity().encode())
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]
