"""Foils: captions that are false of their scene in one thing.

    a small red star above a large blue ring on a striped background        true
    a small red star below a large blue ring on a striped background        false in its relation

`FOILS` changes what is claimed, a `Meaning`; `say_alike` puts it into the sentence that the true claim is put into: the same form,
and the same words but for what has changed. So nothing but the picture tells which of the two is true.

What a caption does not claim cannot be made false in it: in training, a foil is false in something that the caption shown claims,
and a generic caption, "a red star", has none of its place.

`clipedu.evaluation.foils` scores models with them, and `Experiment(foils=1)` trains with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clipedu.data.scenes.captions import PLACES, Dice, Meaning, T, say
from clipedu.data.scenes.drawing import BACKGROUNDS, COLOURS, SHAPES, SIZES


def _another(count: int, dice: Dice, *taken: int | None) -> int:
    """Return one of 0..count-1 that is not taken."""
    return dice.pick([k for k in range(count) if k not in taken])


def _shape(m: Meaning, dice: Dice) -> Meaning:
    return m._replace(shape=_another(len(SHAPES), dice, m.shape, m.other_shape))


def _colour(m: Meaning, dice: Dice) -> Meaning:
    return m._replace(colour=_another(len(COLOURS), dice, m.colour, m.other_colour))


def _size(m: Meaning, dice: Dice) -> Meaning:
    return m._replace(size=_another(len(SIZES), dice, m.size))


def _background(m: Meaning, dice: Dice) -> Meaning:
    return m._replace(background=_another(len(BACKGROUNDS), dice, m.background))


def _place(m: Meaning, dice: Dice) -> Meaning | None:
    return None if m.place is None else m._replace(place=_another(len(PLACES), dice, m.place))


def _relation(m: Meaning, dice: Dice) -> Meaning | None:
    return None if m.relation is None else m._replace(relation=m.relation ^ 1)


def _binding(m: Meaning, dice: Dice) -> Meaning | None:
    return None if m.relation is None else m._replace(colour=m.other_colour, other_colour=m.colour)


# name -> a meaning that is true of a scene -> one that differs in this and is false of it; None where there is none
FOILS: dict[str, Callable[[Meaning, Dice], Meaning | None]] = {
    "shape": _shape,
    "colour": _colour,
    "size": _size,
    "background": _background,
    "place": _place,
    "relation": _relation,
    "binding": _binding,
}

# name -> what a caption must claim for a foil to be false of the scene: without the other object, one of its colour may be true
NEEDS = {name: "relation" if name == "binding" else name for name in FOILS}


class _Heard(Dice):
    """Dice that remember the number before each pick."""

    def __init__(self, number: int):
        super().__init__(number)
        self.numbers: list[int] = []

    def pick(self, options: Sequence[T]) -> T:
        self.numbers.append(self.number)
        return super().pick(options)


class _Repeated(Dice):
    """Dice whose picks begin with the numbers that others had."""

    def __init__(self, numbers: Sequence[int]):
        self.numbers = list(numbers)

    def pick(self, options: Sequence[T]) -> T:
        return options[self.numbers.pop(0) % len(options)]


def false_claim(shown: Meaning, whole: Meaning, kinds: Sequence[str], dice: Dice) -> Meaning | None:
    """Make a claim false in one thing that it says.

    Args:
        shown: what a caption claims: all or a part of `whole`.
        whole: the most specific claim about the same scene, with the same object as the subject.
        kinds: keys of `FOILS`; one of those that are claimed is drawn.
        dice: draws it, and what is claimed in its place.
    Returns:
        a claim with the same fields, false of the scene; None where `shown` claims nothing of these kinds.
    """
    claimed = [kind for kind in kinds if getattr(shown, NEEDS[kind]) is not None]
    if not claimed:
        return None
    foil = FOILS[dice.pick(claimed)](whole, dice)
    assert foil is not None  # where a place or a relation is claimed, there is another one
    return Meaning(*(new if said is not None else None for said, new in zip(shown, foil, strict=True)))


def say_alike(claim: Meaning, like: Meaning, words: int, form: int | None = None) -> str:
    """Put a claim into the sentence that another one is put into.

    Where a word is replaced by one with other synonyms, all other words stay: each is picked with the number that it is picked
    with in the other sentence.

    Args:
        claim: what to say.
        like: a claim with the same fields.
        words: the number of the dice with which `say` puts `like` into words.
        form: as that of `say`.
    """
    heard = _Heard(words)
    say(like, heard, form)
    return say(claim, _Repeated(heard.numbers), form)
