"""Embedding spaces of seeded noise, for the tests of their figures."""

import torch

from clipedu.evaluation.embedding_space import Space
from clipedu.geometry import build_geometry

THREE = ("cosine", "euclidean-squared", "lorentz")


def fake_space(name="lorentz", rows=20, chains=True, seed=0) -> Space:
    """A space of seeded noise around an axis; each row has a chain whose radius grows with the level."""
    noise = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, 6, generator=noise, dtype=torch.float64) / 4 + torch.eye(6, dtype=torch.float64)[0]

    image, text = random(rows), random(rows)
    captions = [f"caption {row}: $5 <b>and</b> _{row}" for row in range(rows)]
    if not chains:
        return Space(build_geometry(name, 6), image, text, captions, captions, text)
    phrase = random(rows, 6) * torch.linspace(0.2, 1, 6, dtype=torch.float64)[:, None]
    phrases = [f"phrase {k} of $6" for k in range(6 * rows)]
    chain = torch.arange(6 * rows).reshape(rows, 6)
    return Space(build_geometry(name, 6), image, text, captions, phrases, phrase.flatten(0, 1), chain)


def three(**options) -> dict[str, Space]:
    return {name: fake_space(name, **options) for name in THREE}
