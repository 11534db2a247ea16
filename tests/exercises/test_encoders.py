"""Each check of 03_encoders passes the right answer and names the famous errors."""

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from clipedu import exercises as ex


def mean_pooling(states, mask):
    """By a loop over the texts."""
    return torch.stack([row[: int(own.sum())].mean(0) for row, own in zip(states, mask, strict=True)])


def last_pooling(states, mask):
    return torch.stack([row[own][-1] for row, own in zip(states, mask, strict=True)])


def relative(x, anchors):
    return cosine_similarity(x[:, None], anchors[None], dim=2)


def image_tokens(image_size, patch_size):
    """By unfolding a picture."""
    patches = torch.zeros(1, image_size, image_size).unfold(1, patch_size, patch_size).unfold(2, patch_size, patch_size)
    return patches.shape[1] * patches.shape[2] + 1


def kept(states, mask):
    return states * mask[..., None]


RIGHT = {
    "mean_pooling": mean_pooling,
    "last_pooling": last_pooling,
    "relative": relative,
    "image_tokens": image_tokens,
}
WRONG = [
    ("mean_pooling", lambda s, m: s.mean(1), "the padding too"),
    ("mean_pooling", lambda s, m: kept(s, m).mean(1), "you divide by L"),
    ("mean_pooling", lambda s, m: kept(s, m).sum(1), "that is the sum"),
    ("mean_pooling", lambda s, m: kept(s, m).sum(1) / m.sum(), "a number of tokens of its own"),
    ("mean_pooling", lambda s, m: s[:, 0], "'cls'"),
    ("mean_pooling", lambda s, m: kept(s, m).sum(1) / (m.sum(1) + 1)[:, None], "row "),
    ("mean_pooling", lambda s, m: s, r"shape \[3, 4\], not \[3, 5, 4\]"),
    ("last_pooling", lambda s, m: s[:, -1], "which is padding"),
    ("last_pooling", lambda s, m: s[torch.arange(3), m.sum(1) % 5], "one too far"),
    ("last_pooling", lambda s, m: s[torch.arange(3), (m.sum(1) - 2).clamp(min=0)], "one too early"),
    ("last_pooling", lambda s, m: s[:, 0], "first token"),
    ("last_pooling", lambda s, m: 3.0, "not float"),
    ("relative", lambda x, a: x @ a.T, "dot products"),
    ("relative", lambda x, a: normalize(x, dim=1) @ a.T, "anchors have lengths"),
    ("relative", lambda x, a: x @ normalize(a, dim=1).T, "x has lengths"),
    ("relative", lambda x, a: normalize(x, dim=0) @ normalize(a, dim=0).T, "dim=1"),
    ("relative", lambda x, a: torch.cdist(normalize(x, dim=1), normalize(a, dim=1)), "distances"),
    ("relative", lambda x, a: relative(x, a).T, "other way round"),
    ("image_tokens", lambda size, patch: (size // patch) ** 2, "class token"),
    ("image_tokens", lambda size, patch: size // patch + 1, "rows and columns"),
    ("image_tokens", lambda size, patch: (size / patch) ** 2 + 1, "round down"),
    ("image_tokens", lambda size, patch: size**2 // patch**2 + 1, "round down before"),
    ("image_tokens", lambda size, patch: (-(-size // patch)) ** 2 + 1, "not up"),
]


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass(name):
    verdict = getattr(ex, f"check_{name}")(RIGHT[name])
    assert verdict.passed, verdict


@pytest.mark.parametrize("name, answer, said", WRONG)
def test_famous_errors_are_named(name, answer, said):
    import re

    verdict = getattr(ex, f"check_{name}")(answer)
    assert not verdict.passed and re.search(said, verdict.message), verdict
