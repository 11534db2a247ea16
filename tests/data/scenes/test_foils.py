"""Foils: each false of its scene and different in one thing, in the same words; those of captions shown in training."""

import re

import pytest
import torch

from clipedu.config.experiment import FOIL_KINDS
from clipedu.data.scenes.captions import Dice, Meaning, holds, meanings, say
from clipedu.data.scenes.dataset import CAPTIONS, Scenes
from clipedu.data.scenes.foils import FOILS, NEEDS, false_claim, say_alike

CHANGED = {
    "shape": {"shape"},
    "colour": {"colour"},
    "size": {"size"},
    "background": {"background"},
    "place": {"place"},
    "relation": {"relation"},
    "binding": {"colour", "other_colour"},
}


@pytest.fixture(scope="module")
def scenes():
    return Scenes("val", 300, seed=3)


@pytest.fixture(scope="module")
def train():
    return Scenes("train", 200, seed=3)


@pytest.mark.parametrize("name", FOILS)
def test_a_foil_is_false_and_differs_in_one_thing(scenes, name):
    claims = meanings(scenes.attributes)
    for row, (number, claim) in enumerate(zip(scenes.rows.tolist(), claims, strict=True)):
        foil = FOILS[name](claim, Dice(number))
        if foil is None:
            assert (claim.relation is None) == (name in ("relation", "binding"))
            continue
        scene = scenes.attributes[row : row + 1]
        assert holds(claim, scene).item() and not holds(foil, scene).item()
        differ = {field for field in claim._fields if getattr(claim, field) != getattr(foil, field)}
        assert differ == CHANGED[name]


def test_a_relation_is_turned_round_and_no_word_of_the_other_object_is_taken(scenes):
    for number, claim in zip(scenes.rows.tolist(), meanings(scenes.attributes), strict=True):
        assert FOILS["shape"](claim, Dice(number)).shape not in (claim.shape, claim.other_shape)
        assert FOILS["colour"](claim, Dice(number)).colour not in (claim.colour, claim.other_colour)
        if claim.relation is not None:
            assert FOILS["relation"](claim, Dice(number)).relation == {0: 1, 1: 0, 2: 3, 3: 2}[claim.relation]


def test_foils_of_places_are_spread_over_all_other_places():
    scenes = Scenes("val", 1000)
    claims = meanings(scenes.attributes)
    apart = torch.zeros(9)
    for number, claim in zip(scenes.rows.tolist(), claims, strict=True):
        if claim.place is not None:
            apart[(FOILS["place"](claim, Dice(number)).place - claim.place) % 9] += 1
    assert apart[0] == 0 and apart[1:].min() > 0.5 * apart[1:].mean()


@pytest.mark.parametrize("name", FOILS)
def test_a_caption_of_any_level_is_made_false_in_one_thing_that_it_claims(train, name):
    made = 0
    for row in range(len(train)):
        for k in range(CAPTIONS):
            whole, shown, _, _ = train._claim(row, k)
            claim = false_claim(shown, whole, [name], Dice(1000003 * row + k))
            assert (claim is None) == (getattr(shown, NEEDS[name]) is None)
            if claim is None:
                continue
            made += 1
            scene = train.attributes[row : row + 1]
            assert holds(shown, scene).item() and not holds(claim, scene).item()
            assert {field for field in Meaning._fields if getattr(claim, field) != getattr(shown, field)} == CHANGED[
                name
            ]
    assert made > 100


BOTH = {  # words of everything that a kind of foil may put in the place of another, the longest first
    "relation": r"to the (left|right) of|(left|right) of|above|over|below|under|beneath",
    "size": r"small|little|tiny|medium|large|big",
}


@pytest.mark.parametrize("name", BOTH)
def test_all_words_stay_but_those_of_what_is_changed(train, name):
    """ "above" has two words and "below" three, so that the words after it would be others if they were drawn anew."""
    made = 0
    for row in range(len(train)):
        for k, true in enumerate(train.captions(row)):
            foil = train.foil(row, k, [name], 7 * row + k)
            if foil is not None:
                made += 1
                assert foil != true and re.sub(BOTH[name], "_", foil) == re.sub(BOTH[name], "_", true)
    assert made > 100


def test_a_claim_that_is_said_like_itself_is_the_caption(train):
    for row in range(50):
        for k, (shown, true) in enumerate(train.claims(row)):
            _, _, dice, form = train._claim(row, k)
            assert say_alike(shown, shown, dice.number, form) == true == say(shown, dice, form)


def test_foils_are_drawn_by_their_number_alone(train):
    kinds = list(FOILS)
    made = [train.foil(5, 1, kinds, number) for number in range(100)]
    assert made == [Scenes("train", 6, seed=3).foil(5, 1 + CAPTIONS, kinds, number) for number in range(100)]
    assert len(set(made)) > 20
    assert train.foil(5, 1, [], 3) is None and Scenes("zeroshot", 5).foil(0, 0, kinds, 0) is None


def test_the_settings_name_all_kinds():
    assert list(FOIL_KINDS) == list(FOILS) == list(NEEDS)
