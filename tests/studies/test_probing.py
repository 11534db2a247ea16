"""Questions about scenes: right answers typed out, and an encoder that can be taught them."""

import pytest
import torch
from torch import nn

from clipedu.data.scenes.dataset import Scenes
from clipedu.models.vit import build_vit
from clipedu.studies.probing import QUESTIONS, answers, ask
from clipedu.utils.finite import NotFinite


def test_answers_typed_out():
    scenes = Scenes("val", 300)
    found, a = answers(scenes), scenes.attributes
    assert list(found) == list(QUESTIONS)
    for row in range(300):
        one, two = (dict(colour=a.colour[row, k], centre=a.centre[row, k], size=a.size[row, k]) for k in (0, 1))
        if a.count[row] == 1:
            assert found["place"][row] == a.place[row, 0] and found["relation"][row] == found["size"][row] == -1
            continue
        first, other = (one, two) if one["colour"] < two["colour"] else (two, one)
        across, down = (first["centre"] - other["centre"]).tolist()
        expected = (0 if across < 0 else 1) if abs(across) > abs(down) else (2 if down < 0 else 3)
        assert found["relation"][row] == expected and found["size"][row] == first["size"] and found["place"][row] == -1


def test_every_answer_is_about_as_frequent():
    found = answers(Scenes("train", 4000))
    for name, count in QUESTIONS.items():
        asked = found[name][found[name] >= 0]
        share = torch.bincount(asked, minlength=count).float() / len(asked)
        assert len(share) == count and (share * count - 1).abs().max() < 0.2, name


class Colours(nn.Module):
    """The mean colours of 6 x 6 fields: enough for places."""

    def __init__(self):
        super().__init__()
        self.pool, self.mix = nn.AdaptiveAvgPool2d(6), nn.Sequential(nn.Linear(108, 128), nn.ReLU())

    def forward(self, x):
        return self.mix(self.pool(x).flatten(1))


def test_what_can_be_seen_is_learned_and_what_cannot_is_not():
    torch.manual_seed(0)
    scores = ask(Colours(), steps=150, train_size=3000, test_size=1000, lr=3e-3)
    assert scores["place"] > 30  # chance 11
    blind = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 16))
    scores = ask(blind, steps=60, train_size=1000, test_size=1000)
    assert abs(scores["place"] - 11) < 8 and abs(scores["relation"] - 25) < 8


def test_same_seed_same_scores():
    def once(seed):
        torch.manual_seed(1)
        encoder = build_vit(img_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=0)
        return ask(encoder, seed=seed, steps=5, train_size=256, test_size=100)

    before = torch.get_rng_state()
    assert once(0) == once(0) != once(1)
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.set_rng_state(before)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("frozen", ["pos_embed", "reg_token"])
def test_what_is_fixed_stays(frozen):
    encoder = build_vit(
        img_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=0, extra="fractal", base=2
    )
    kept = getattr(encoder, frozen).clone()
    weight = encoder.blocks[0].mlp.fc1.weight.clone()
    ask(encoder, steps=3, train_size=128, test_size=50)
    assert torch.equal(getattr(encoder, frozen), kept) and not torch.equal(encoder.blocks[0].mlp.fc1.weight, weight)


def spoiled(encoder, value):
    with torch.no_grad():
        next(encoder.parameters())[0] = value
    return encoder


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_an_encoder_that_diverged_has_no_score(value):
    small = {"steps": 2, "train_size": 128, "test_size": 10}
    with pytest.raises(NotFinite, match=r"the weight 'mix.0.weight' \(.*\) of the encoder is not finite") as caught:
        ask(spoiled(Colours(), value), **small)
    assert "\n" not in str(caught.value)
    for frozen in (False, True):
        encoder = Colours()
        encoder.requires_grad_(not frozen)
        with pytest.raises(NotFinite, match=r"is not finite after 2 steps \(lr 1e\+30\): a smaller lr may help"):
            ask(encoder, lr=1e30, **small)


def test_features_that_overflow_have_no_score():
    class Overflows(Colours):
        def forward(self, x):
            return super().forward(x) if self.training else super().forward(x) / 0

    with pytest.raises(NotFinite, match="10 of 10 features of the scenes to test on are not finite"):
        ask(Overflows(), steps=1, train_size=128, test_size=10)
