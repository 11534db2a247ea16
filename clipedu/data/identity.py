"""Identity: what a set consists of, by content, and what changed in it.

A picture is known by a digest of its decoded pixels, a row's text by a digest of all its captions. They are the same
wherever the set is, whatever its files are called, and however they were dated. What is made of a set (features of frozen
encoders, a stopped run) is kept with its identity, and is not used for a set with another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

DIGEST_BYTES = 16
_ROUNDING = 1  # levels by which a drawn pixel may differ between machines


def content_digest(data: bytes | memoryview) -> bytes:
    """Hash bytes: BLAKE2b, `DIGEST_BYTES` long; about 1 GB a second."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def digest_rows(items: Iterable[bytes | memoryview]) -> np.ndarray:
    """Hash each of N items: uint8 [N, `DIGEST_BYTES`]."""
    found = b"".join(map(content_digest, items))
    return np.frombuffer(found, np.uint8).reshape(-1, DIGEST_BYTES)


def digest_captions(captions: Iterable[Sequence[str]]) -> np.ndarray:
    """Hash all captions of each row: uint8 [N, `DIGEST_BYTES`]."""
    return digest_rows(json.dumps(list(texts)).encode() for texts in captions)


def summary(digests: np.ndarray) -> str:
    """Hash the digests of all rows, in order, as 32 hexadecimal digits."""
    return content_digest(np.ascontiguousarray(digests).tobytes()).hex()


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say what differs between two identities of one set.

    Args:
        before, now: as `Pairs.identity` returns them; parts that one of them has not are not compared.
    Returns:
        a few words for each part that differs; empty if none does. Of scenes drawn on two machines, whose pixels differ
        by one level at most, the pictures count as equal.
    """
    both = before.keys() & now.keys()
    found = []
    if "rows" in both and before["rows"] != now["rows"]:
        found.append(f"the number of pairs (it was {before['rows']:,}, now it is {now['rows']:,})")
    if "image_size" in both and before["image_size"] != now["image_size"]:
        found.append(f"the image size (it was {before['image_size']}, now it is {now['image_size']})")
    if "pictures" in both and before["pictures"] != now["pictures"] and not (found or _alike(before, now)):
        found.append("the pictures")
    if "captions" in both and before["captions"] != now["captions"] and before.get("rows") == now.get("rows"):
        found.append("the captions")
    if "classes" in both and before["classes"] != now["classes"]:
        found.append("the classes")
    return found


def _alike(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Check whether two sketches of drawn pictures differ by rounding only."""
    try:
        one, two = (np.frombuffer(bytes.fromhex(each["sketch"]), np.uint8).astype(int) for each in (before, now))
    except (KeyError, ValueError, TypeError):
        return False
    return len(one) == len(two) and bool((abs(one - two) <= _ROUNDING).all())
