"""Statistics of pairs: words, copies, dead links, mirrored captions.

Functions from captions and pixels to numbers; `clipedu.plots.data` draws them. "Words" are those of `clean_caption`: lower
case, no punctuation, the first 30.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from clipedu.data.cleaning import clean_caption, has_html
from clipedu.data.letterboxes import has_letterbox
from clipedu.data.pairs import Pairs

CHUNK = 1024


class LinkRot(NamedTuple):
    """Dead links of a list: a share `lost` after so many `years`."""

    what: str
    years: float
    lost: float


# CC3M's 3,318,333 links: Sharma et al., July 2018; CC12M's: Changpinyo et al., February 2021.
LINK_ROT = (
    LinkRot("CC3M, December 2021", 3.4, 0.124),  # 2,905,954 pairs are left in the mirror pixparse/cc3m-wds
    LinkRot("CC3M, 2024", 6.0, 0.30),  # as reported by users who fetched it; "30 % and more"
    LinkRot("CC12M, October 2025", 4.7, 0.377),  # likewise
)


def all_captions(pairs: Pairs) -> list[str]:
    """List every caption of every row, in order."""
    return [caption for row in range(len(pairs)) for caption in pairs.captions(row)]


def escaped_html(captions: Iterable[str]) -> list[str]:
    """List the captions that hold escaped HTML, such as `&amp;`.

    A model reads them as they are unless captions are cleaned: `clean_captions="web"` unescapes them, as open_clip does.
    """
    return [caption for caption in captions if has_html(caption)]


def words(caption: str) -> list[str]:
    """Split a caption, cleaned as the course does, into words."""
    return clean_caption(caption).split()


def word_counts(captions: Iterable[str]) -> Counter[str]:
    """Count how often each word occurs, most frequent first."""
    counts = Counter(word for caption in captions for word in words(caption))
    return Counter(dict(counts.most_common()))


def repeats(items: Iterable[Hashable]) -> list[list[int]]:
    """Group the positions of repeated items; the most frequent first."""
    places: dict[Hashable, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(item, []).append(place)
    return sorted((group for group in places.values() if len(group) > 1), key=len, reverse=True)


def pixel_digests(pairs: Pairs) -> list[str]:
    """Hash each row's pixels; only equal images have equal hashes."""
    found = []
    for rows in torch.arange(len(pairs)).split(CHUNK):
        found += [hashlib.blake2b(picture.tobytes()).hexdigest() for picture in pairs.pixels(rows).numpy()]
    return found


def difference_hash(pixels: Tensor) -> Tensor:
    """Compute a difference hash of 64 bits.

    A bit is 1 if a pixel is brighter than its right neighbour, in the grey image shrunk to 8 x 9.

    Scaling, compression and brightness hardly change the 64 bits; so images whose hashes differ in few bits look alike.

    Args:
        pixels: [B, 3, H, W].
    Returns:
        bool [B, 64].
    """
    small = adaptive_avg_pool2d(pixels.float().mean(1, keepdim=True), (8, 9))[:, 0]
    return (small[:, :, :-1] > small[:, :, 1:]).flatten(1)


def difference_hashes(pairs: Pairs) -> Tensor:
    """Compute `difference_hash` of every row: bool [N, 64]."""
    return torch.cat([difference_hash(pairs.pixels(rows)) for rows in torch.arange(len(pairs)).split(CHUNK)])


def letterboxes(pairs: Pairs) -> Tensor:
    """Find the rows whose picture has plain borders on two sides.

    See `clipedu.data.letterboxes`. Returns bool [N].
    """
    found = [
        has_letterbox(picture)
        for rows in torch.arange(len(pairs)).split(CHUNK)
        for picture in pairs.pixels(rows).numpy()
    ]
    return torch.tensor(found, dtype=torch.bool)


def hamming(one: Tensor, other: Tensor) -> Tensor:
    """Count the differing bits of bool [N, K] and [M, K]: int64 [N, M]."""
    one, other = one.float(), other.float()
    return (one @ (1 - other).T + (1 - one) @ other.T).long()


def near_copies(hashes: Tensor, at_most: int) -> Tensor:
    """Find pairs of rows whose hashes differ in a few bits at most.

    Returns int64 [K, 2], the nearest pair first, the lower row first.
    """
    found, distances = [], []
    for start in range(0, len(hashes), CHUNK):
        distance = hamming(hashes[start : start + CHUNK], hashes)
        one, other = (distance <= at_most).nonzero(as_tuple=True)
        later = other > one + start
        found.append(torch.stack([one + start, other], 1)[later])
        distances.append(distance[one, other][later])
    return torch.cat(found)[torch.cat(distances).argsort(stable=True)]


def sampling_error(share: float, sample: int, population: int) -> float:
    """Compute the relative standard error of a word's frequency in a sample.

    It is sqrt((1 - p) / (p n) x (N - n) / (N - 1)); the second factor is for drawing without replacement (Cochran 1977,
    section 3.2).

    Args:
        share: p, the share of the population's captions that have the word, above 0.
        sample: n, captions drawn.
        population: N, captions in all.
    """
    return math.sqrt((1 - share) / (share * sample) * (population - sample) / max(1, population - 1))


def half_life(lost: float, years: float) -> float:
    """Compute the half-life of links, in years, from the share lost."""
    return years * math.log(2) / -math.log1p(-lost)


def names_a_side(caption: str) -> bool:
    """Check whether the caption says "left" or "right"."""
    return not {"left", "right"}.isdisjoint(words(caption))


def swap_sides(caption: str) -> str:
    """Exchange "left" and "right", as is true of the mirror image."""
    other = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}
    return " ".join(other.get(word, word) for word in words(caption))
