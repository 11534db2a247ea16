"""Left or right: a model that knows gets 100 %, one that turns it round 0, one that cannot know about half."""

import pytest
import torch

from clipedu.data.scenes.captions import Dice, meanings, say
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.scenes.mirror import mirrored
from clipedu.evaluation import foils
from clipedu.evaluation.foils import side_scores


class Knowing:
    """Texts become vectors of their letters; an image that of what is true of it, or of its mirror image (`turned`)."""

    def __init__(self, scenes, turned=False, blind=False):
        claims = meanings(mirrored(scenes.attributes) if turned else scenes.attributes)
        self.said, self.noise = [say(claim, Dice(0)) for claim in claims], blind
        self.generator = torch.Generator().manual_seed(0)
        self.geometry = self

    @staticmethod
    def similarity(x, y):
        return x @ y.T

    def embed_texts(self, texts):
        if self.noise:
            return torch.randn(len(texts), 8, generator=self.generator)
        return torch.tensor([[float(ord(text[k % len(text)])) for k in range(80)] for text in texts]) - 100

    def images(self):
        return self.embed_texts(self.said)


def unit(x):
    return torch.nn.functional.normalize(x.double(), dim=1)


@pytest.mark.parametrize("turned, expected", [(False, 100.0), (True, 0.0)])
def test_who_knows_and_who_turns_it_round(monkeypatch, turned, expected):
    scenes = Scenes("val", 60)
    model = Knowing(scenes, turned)
    monkeypatch.setattr(model, "similarity", lambda x, y: unit(x) @ unit(y).T)
    monkeypatch.setattr(foils, "embed_images", lambda model, pairs: model.images())
    assert side_scores(model, scenes) == {"one object": expected, "two objects": expected}


def test_who_can_not_know(monkeypatch):
    scenes = Scenes("val", 600)
    model = Knowing(scenes, blind=True)
    monkeypatch.setattr(foils, "embed_images", lambda model, pairs: torch.ones(600, 8))
    assert all(35 < score < 65 for score in side_scores(model, scenes).values())


def test_a_trained_model_is_asked(finished):
    got = side_scores(finished.model(), Scenes("val", 50))
    assert set(got) == {"one object", "two objects"} and all(0 <= score <= 100 for score in got.values())
