"""Foils as scores: which scenes have them; a model that knows, one that does not, one that is blind to one thing."""

import pytest
import torch

from clipedu.data.scenes.captions import Dice, meanings, say
from clipedu.data.scenes.dataset import Scenes
from clipedu.evaluation.foils import FOILS, foil_scores, foils, prefers
from clipedu.geometry import build_geometry


@pytest.fixture(scope="module")
def scenes():
    return Scenes("val", 300, seed=3)


def test_which_scenes_are_asked(scenes):
    two = int((scenes.attributes.count == 2).sum())
    count = {name: len(foils(scenes, name)) for name in FOILS}
    assert count == {"shape": 300, "colour": 300, "size": 300, "background": 300} | {
        "place": 300 - two,
        "relation": two,
        "binding": two,
    }
    assert foils(scenes, "place") == foils(scenes, "place")
    row, true, false = foils(scenes, "relation")[0]
    assert true == say(meanings(scenes.attributes)[row], Dice(0)) and true != false


class Knowing:
    """Texts become one-hot vectors of what they say; a picture is the sum of those of its true captions, of all or of some foils."""

    def __init__(self, scenes, knows=tuple(FOILS)):
        self.geometry = build_geometry("cosine", 4096)
        self.number: dict[str, int] = {}
        self.image = torch.zeros(len(scenes), 4096)
        for name in FOILS:
            for row, true, false in foils(scenes, name):
                self.image[row] += self.embed_texts([true])[0]
                if name not in knows:
                    self.image[row] += 20 * self.embed_texts([false])[0]

    def embed_texts(self, texts, strict=True):
        rows = torch.zeros(len(texts), 4096)
        for row, text in enumerate(texts):
            rows[row, self.number.setdefault(text, len(self.number))] = 1
        return rows


def test_who_knows_and_who_is_fooled_by_one_thing():
    scenes = Scenes("val", 200)
    model = Knowing(scenes)
    true = model.embed_texts([say(meaning, Dice(0)) for meaning in meanings(scenes.attributes)])
    assert foil_scores(model, scenes, model.image, true) == {f"foil_{name}": 100.0 for name in FOILS}
    fooled = Knowing(scenes, [name for name in FOILS if name not in ("relation", "place")])
    true = fooled.embed_texts([say(meaning, Dice(0)) for meaning in meanings(scenes.attributes)])
    scores = foil_scores(fooled, scenes, fooled.image, true)
    assert scores["foil_colour"] == 100.0 and scores["foil_relation"] < 40 and scores["foil_place"] < 40


def test_prefers_is_row_by_row_in_any_geometry():
    noise = torch.Generator().manual_seed(0)
    image, true, false = (torch.randn(150, 8, generator=noise) for _ in range(3))
    for name in ("cosine", "lorentz"):
        geometry = build_geometry(name, 8)
        expected = [
            (geometry.similarity(i[None], t[None]) > geometry.similarity(i[None], f[None])).item()
            for i, t, f in zip(image, true, false, strict=True)
        ]
        assert prefers(geometry, image, true, false).tolist() == expected
    assert set(prefers(geometry, image, true, true).tolist()) == {0.5}
    assert set(prefers(geometry, image * float("nan"), true, false).tolist()) == {0.5}


def test_a_collapsed_model_is_at_chance():
    scenes = Scenes("val", 100)
    model = Knowing(scenes)
    model.embed_texts = lambda texts, strict=True: torch.ones(len(texts), 4096)
    scores = foil_scores(model, scenes, torch.ones(100, 4096), torch.ones(100, 4096))
    assert scores == {f"foil_{name}": 50.0 for name in FOILS}


def test_the_last_caption_of_a_chain_is_the_true_one():
    """So the embeddings of chains serve for foils, too."""
    scenes = Scenes("val", 50)
    for row, meaning in enumerate(meanings(scenes.attributes)):
        assert scenes.chain(row)[-1] == say(meaning, Dice(0))


def test_runs_on_scenes_are_asked(finished):
    asked = {key: value for key, value in finished.metrics.items() if key.startswith("foil_")}
    assert set(asked) == {f"foil_{name}" for name in FOILS} and all(0 <= value <= 100 for value in asked.values())
    report = (finished.folder / "report.html").read_text()
    assert "true caption before one that is wrong in how the objects stand to each other" in report


def test_scores_for_a_terminal_name_the_foils(finished):
    from clipedu.report.score_table import scores_text

    assert "true caption before one wrong in its ... (%, chance 50): shape" in scores_text(finished.metrics)
    without = {key: value for key, value in finished.metrics.items() if not key.startswith("foil_")}
    assert "wrong in its" not in scores_text(without)
