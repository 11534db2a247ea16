"""Captions: read back into meanings, and meanings against a naive reading of scenes."""

import itertools
import random
import re

import pytest
import torch

from clipedu.data.scenes import captions as language
from clipedu.data.scenes.captions import PLACES, RELATIONS, SYNONYMS, Dice, Meaning, holds, meanings, say
from clipedu.data.scenes.drawing import BACKGROUNDS, COLOURS, SHAPES, SIZES
from clipedu.data.scenes.sampling import sample

VOCABULARY = {
    "shape": SHAPES,
    "colour": COLOURS,
    "size": SIZES,
    "relation": RELATIONS,
    "place": PLACES,
    "background": BACKGROUNDS,
}


def index(kind: str, name: str) -> int:
    return list(VOCABULARY[kind]).index(name)


def meaning(**names: str) -> Meaning:
    return Meaning(**{key: index(key.removeprefix("other_"), name) for key, name in names.items()})


def find(kind: str, text: str) -> tuple[int | None, str, str]:
    """The first of a kind's names (or its synonyms) in the text, and what stands before and after it."""
    words = [(word, i) for i, name in enumerate(VOCABULARY[kind]) for word in SYNONYMS.get(name, (name,))]
    for word, number in sorted(words, key=lambda pair: -len(pair[0])):
        if match := re.search(rf"(?<![\w-]){word}(?![\w-])", text):
            return number, text[: match.start()], text[match.end() :]
    return None, text, ""


def read_noun(text: str) -> tuple[int | None, int | None, int | None]:
    assert re.search(r"\b(a [^aeiou]|an [aeiou]|something )", text), text
    return tuple(find(kind, text)[0] for kind in ("shape", "colour", "size"))


def read(caption: str) -> Meaning:
    """What a caption claims, from its words alone."""
    background, before, after = find("background", caption)
    place, before, after = find("place", before + after)
    relation, before, after = find("relation", before + after)
    if relation is None:
        return Meaning(*read_noun(before + after), place=place, background=background)
    if after.strip() == "it":  # "a ring with a star above it"
        other, subject = before.split(" with ")
    elif " there is " in after:  # "above a ring there is a star"
        other, subject = after.split(" there is ")
    else:
        subject, other = before, after
    return Meaning(*read_noun(subject), relation, *read_noun(other), place=place, background=background)


def random_meaning(dice: random.Random, level: int) -> Meaning:
    full = [dice.randrange(len(VOCABULARY[kind])) for kind in ("shape", "colour", "size")]
    other = [dice.randrange(len(VOCABULARY[kind])) for kind in ("shape", "colour", "size")]
    background = dice.randrange(len(BACKGROUNDS))
    if dice.random() < 0.5:
        whole = Meaning(*full, dice.randrange(4), *other, background=background)
    else:
        whole = Meaning(*full, place=dice.randrange(9), background=background)
    return whole.at_level(level, Dice(dice.randrange(2)))


def test_a_caption_says_what_it_means():
    dice = random.Random(0)
    for level in range(language.LEVELS):
        for _ in range(400):
            what = random_meaning(dice, level)
            caption = say(what, Dice(dice.randrange(2**62)))
            assert read(caption) == what, caption


@pytest.mark.parametrize("forms", ["RELATION_FORMS", "PLACE_FORMS", "PLAIN_FORMS"])
def test_every_form_and_every_word_is_used(forms):
    example = {
        "RELATION_FORMS": Meaning(0, 1, 2, 2, 3, 4, 0, background=2),
        "PLACE_FORMS": Meaning(0, 1, 2, place=4, background=2),
        "PLAIN_FORMS": Meaning(0, 1, 2),
    }[forms]
    count = len(getattr(language, forms))
    assert len({say(example, Dice(0), form) for form in range(count)}) >= count - (forms == "PLAIN_FORMS")
    assert say(example, Dice(0), count + 1) == say(example, Dice(0), 1)


def test_captions_in_full():
    star = meaning(
        shape="star",
        colour="red",
        size="small",
        relation="above",
        other_shape="ring",
        other_colour="blue",
        other_size="large",
        background="striped",
    )
    told = [say(star, Dice(0), form) for form in range(len(language.RELATION_FORMS))]
    assert told == [
        "a small red star above a large blue ring on a striped background",
        "a picture of a small red star above a large blue ring on a striped background",
        "a small red star is above a large blue ring on a striped background",
        "on a striped background, a small red star above a large blue ring",
        "there is a small red star above a large blue ring on a striped background",
        "above a large blue ring there is a small red star on a striped background",
        "a large blue ring with a small red star above it on a striped background",
    ]
    assert say(star.inverted(), Dice(0)) == "a large blue ring below a small red star on a striped background"
    chain = [say(star.at_level(level, Dice(0)), Dice(0)) for level in range(language.LEVELS)]
    assert chain == [
        "a shape",
        "a star",
        "a red star",
        "a small red star",
        "a small red star above a blue ring",
        "a small red star above a large blue ring on a striped background",
    ]
    assert say(star.at_level(1, Dice(1)), Dice(0)) == "something red"
    assert say(meaning(shape="arrow"), Dice(0)) == "an arrow"


def test_inverse_relations_swap_and_come_back():
    pairs = {("left of", "right of"), ("right of", "left of"), ("above", "below"), ("below", "above")}
    for name, inverse in pairs:
        what = Meaning(1, 2, 0, index("relation", name), 3, 4, 2, background=1)
        assert what.inverted() == Meaning(3, 4, 2, index("relation", inverse), 1, 2, 0, background=1)
        assert what.inverted().inverted() == what


def test_dice_reach_every_combination_and_then_stay_on_the_first():
    rolls = {tuple(dice.pick("abc") + dice.pick("xy") for _ in range(1)) for dice in map(Dice, range(6))}
    assert len(rolls) == 6
    assert Dice(0).pick((7, 8, 9)) == 7


def naive_holds(what: Meaning, scene) -> bool:
    """One scene, object by object, in plain Python."""

    def fits(slot, shape, colour, size):
        facts = (int(scene.shape[0, slot]), int(scene.colour[0, slot]), int(scene.size[0, slot]))
        return all(claim is None or claim == fact for claim, fact in zip((shape, colour, size), facts, strict=True))

    count = int(scene.count)
    if what.background is not None and what.background != int(scene.background):
        return False
    for subject in range(count):
        if not fits(subject, what.shape, what.colour, what.size):
            continue
        if what.place is not None and what.place != int(scene.place[0, subject]):
            continue
        if what.relation is None:
            return True
        for other in range(count):
            if other == subject or not fits(other, what.other_shape, what.other_colour, what.other_size):
                continue
            (x, y), (other_x, other_y) = scene.centre[0, subject].tolist(), scene.centre[0, other].tolist()
            dx, dy = x - other_x, y - other_y
            sideways = "left of" if dx < 0 else "right of"
            upright = "above" if dy < 0 else "below"
            if RELATIONS[what.relation] == (sideways if abs(dx) > abs(dy) else upright):
                return True
    return False


def test_truth_is_what_a_look_at_the_objects_says():
    scenes = sample(5, "train", torch.arange(60))
    claims = {m.at_level(level, Dice(d)) for m in meanings(scenes) for level in range(6) for d in (0, 1)}
    claims |= {m.inverted() for m in claims if m.relation is not None}
    claims |= {Meaning(place=p) for p in range(9)} | {Meaning(relation=r) for r in range(4)}
    claims = random.Random(0).sample(sorted(claims, key=str), 150)
    for what in claims:
        expected = [naive_holds(what, scenes[row : row + 1]) for row in range(len(scenes))]
        assert holds(what, scenes).tolist() == expected, what


def test_an_absent_second_object_makes_nothing_true():
    scenes = sample(0, "train", torch.arange(500))
    single = scenes[scenes.count == 1]
    ghosts = single.colour[:, 1]
    for colour in range(len(COLOURS)):
        assert torch.equal(holds(Meaning(colour=colour), single), single.colour[:, 0] == colour)
    assert len(ghosts.unique()) == len(COLOURS)
    assert not any(holds(Meaning(relation=r), single).any() for r in range(4))


def test_no_synonym_stands_for_two_things():
    words = [word for names in VOCABULARY.values() for name in names for word in SYNONYMS.get(name, (name,))]
    assert len(words) == len(set(words))
    assert set(SYNONYMS) - {"shape"} <= set(itertools.chain(*VOCABULARY.values()))
