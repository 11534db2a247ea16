"""Captions of scenes: meanings, their truth, and sentences for them.

A `Meaning` has a number for each attribute that a caption names. A chain of meanings runs from generic to specific:

    0  a shape
    1  a star                                                or: something red
    2  a red star
    3  a small red star
    4  a small red star above a blue ring                    or, alone in its scene: ... in the top left corner
    5  a small red star above a large blue ring on a striped background

A caption is a pure function of its scene: its words are chosen by a `Dice`, which holds one integer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from clipedu.data.scenes.drawing import BACKGROUNDS, COLOURS, SHAPES, SIZES

if TYPE_CHECKING:
    from clipedu.data.scenes.attributes import Attributes

T = TypeVar("T")

RELATIONS = ("left of", "right of", "above", "below")  # `relation ^ 1` is the inverse
PLACES = (
    *("top left", "top", "top right"),
    *("left", "middle", "right"),
    *("bottom left", "bottom", "bottom right"),
)  # a 3 x 3 grid, row by row

LEVELS = 6  # how many captions a chain has

SYNONYMS: dict[str, tuple[str, ...]] = {
    "shape": ("shape", "object", "figure"),
    "circle": ("circle", "disc"),
    "ring": ("ring", "hoop"),
    "square": ("square", "box"),
    "diamond": ("diamond", "rhombus"),
    "cross": ("cross", "plus sign"),
    "crescent": ("crescent", "moon"),
    "cyan": ("cyan", "turquoise"),
    "purple": ("purple", "violet"),
    "small": ("small", "little", "tiny"),
    "large": ("large", "big"),
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "top left": ("in the top left corner", "at the top left", "in the upper left corner"),
    "top": ("at the top", "near the top edge"),
    "top right": ("in the top right corner", "at the top right", "in the upper right corner"),
    "left": ("on the left", "near the left edge"),
    "middle": ("in the middle", "in the centre"),
    "right": ("on the right", "near the right edge"),
    "bottom left": ("in the bottom left corner", "at the bottom left", "in the lower left corner"),
    "bottom": ("at the bottom", "near the bottom edge"),
    "bottom right": ("in the bottom right corner", "at the bottom right", "in the lower right corner"),
    "light": ("on a light background", "on a pale background"),
    "dark": ("on a dark background", "on a dim background"),
    "striped": ("on a striped background", "on stripes"),
    "checked": ("on a checked background", "on a chequerboard"),
    "gradient": ("on a shaded background", "on a gradient"),
}


def _words(names: Sequence[str]) -> list[tuple[str, ...]]:
    return [SYNONYMS.get(name, (name,)) for name in names]


_SHAPES, _COLOURS, _SIZES = _words(list(SHAPES)), _words(list(COLOURS)), _words(list(SIZES))
_RELATIONS, _PLACES, _BACKGROUNDS = _words(RELATIONS), _words(PLACES), _words(list(BACKGROUNDS))

# s: subject, o: the other object, r: relation, p: place, b: background, with a comma after it where it comes first.
RELATION_FORMS = (
    "{s} {r} {o} {b}",
    "a picture of {s} {r} {o} {b}",
    "{s} is {r} {o} {b}",
    "{b}, {s} {r} {o}",
    "there is {s} {r} {o} {b}",
    "{r} {o} there is {s} {b}",
    "{o} with {s} {r} it {b}",
)
PLACE_FORMS = (
    "{s} {p} {b}",
    "a picture of {s} {p} {b}",
    "{s} is {p} {b}",
    "{b}, {s} {p}",
    "there is {s} {p} {b}",
    "{p} there is {s} {b}",
)
PLAIN_FORMS = ("{s} {b}", "a picture of {s} {b}", "there is {s} {b}", "{b}, {s}")


class Dice:
    """Choices from one non-negative integer.

    Each `pick` uses up a part of it. `Dice(0)` always picks the first option.
    """

    def __init__(self, number: int):
        self.number = number

    def pick(self, options: Sequence[T]) -> T:
        self.number, which = divmod(self.number, len(options))
        return options[which]


class Meaning(NamedTuple):
    """What a caption claims; None is "not said".

    Fields are indices into SHAPES, COLOURS, SIZES, RELATIONS, PLACES and BACKGROUNDS.

    `relation` is the subject's to the other object: "subject above other". `place` is the subject's in the picture.
    """

    shape: int | None = None
    colour: int | None = None
    size: int | None = None
    relation: int | None = None
    other_shape: int | None = None
    other_colour: int | None = None
    other_size: int | None = None
    place: int | None = None
    background: int | None = None

    def inverted(self) -> Meaning:
        """Return the same claim with the other object as the subject.

        For "a star above a ring" that is "a ring below a star".

        Raises:
            ValueError: the claim has no relation.
        """
        if self.relation is None:
            raise ValueError("a claim without a relation has no inverse")
        return self._replace(
            shape=self.other_shape,
            colour=self.other_colour,
            size=self.other_size,
            relation=self.relation ^ 1,
            other_shape=self.shape,
            other_colour=self.colour,
            other_size=self.size,
        )

    def at_level(self, level: int, dice: Dice) -> Meaning:
        """Reduce a full claim to what `level` (0 to 5) of a chain names."""
        if level == 0:
            return Meaning()
        if level == 1:
            return dice.pick((Meaning(shape=self.shape), Meaning(colour=self.colour)))
        if level == 2:
            return Meaning(self.shape, self.colour)
        if level == 3:
            return Meaning(self.shape, self.colour, self.size)
        if level == 4:
            return self._replace(other_size=None, background=None)
        return self


def holds(meaning: Meaning, scenes: Attributes) -> Tensor:
    """Check of which of the N `scenes` a claim is true: bool [N]."""

    def fits(shape: int | None, colour: int | None, size: int | None) -> Tensor:  # bool [N, 2]: which objects?
        fit = scenes.exists()
        for claimed, actual in ((shape, scenes.shape), (colour, scenes.colour), (size, scenes.size)):
            if claimed is not None:
                fit = fit & (actual == claimed)
        return fit

    subject = fits(meaning.shape, meaning.colour, meaning.size)
    if meaning.place is not None:
        subject = subject & (scenes.place == meaning.place)
    if meaning.relation is None:
        true = subject.any(1)
    else:
        other = fits(meaning.other_shape, meaning.other_colour, meaning.other_size)
        direct = subject[:, 0] & other[:, 1] & (scenes.relation == meaning.relation)
        inverse = subject[:, 1] & other[:, 0] & (scenes.relation == meaning.relation ^ 1)
        true = direct | inverse
    return true if meaning.background is None else true & (scenes.background == meaning.background)


def noun(shape: int | None, colour: int | None, size: int | None, dice: Dice) -> str:
    """Put an object into words, with its article: "a small red star".

    Args:
        shape, colour, size: indices into SHAPES, COLOURS and SIZES; None is not named.
        dice: chooses among synonyms.
    """
    if shape is None and colour is not None and dice.pick((True, False)):
        return f"something {dice.pick(_COLOURS[colour])}"
    words = dice.pick(SYNONYMS["shape"] if shape is None else _SHAPES[shape])
    if colour is not None:
        words = f"{dice.pick(_COLOURS[colour])} {words}"
    if size is not None:
        words = f"{dice.pick(_SIZES[size])} {words}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def say(meaning: Meaning, dice: Dice, form: int | None = None) -> str:
    """Put a claim into a sentence.

    Args:
        meaning: the claim.
        dice: chooses the words, and the form of the sentence unless `form` does.
        form: number of the sentence's form, modulo how many there are.
    """
    forms = (
        RELATION_FORMS if meaning.relation is not None else PLACE_FORMS if meaning.place is not None else PLAIN_FORMS
    )
    template = dice.pick(forms) if form is None else forms[form % len(forms)]
    said = template.format(
        s=noun(meaning.shape, meaning.colour, meaning.size, dice),
        o="" if meaning.relation is None else noun(meaning.other_shape, meaning.other_colour, meaning.other_size, dice),
        r="" if meaning.relation is None else dice.pick(_RELATIONS[meaning.relation]),
        p="" if meaning.place is None else dice.pick(_PLACES[meaning.place]),
        b="" if meaning.background is None else dice.pick(_BACKGROUNDS[meaning.background]),
    )
    return said.strip(" ,")


def meanings(scenes: Attributes) -> list[Meaning]:
    """Return the most specific claim about each scene's first object."""
    columns = (scenes.count, *scenes.shape.T, *scenes.colour.T, *scenes.size.T, scenes.relation, scenes.place[:, 0])
    table = torch.stack([*columns, scenes.background], 1).tolist()
    return [
        Meaning(shape, colour, size, relation, shape2, colour2, size2, background=background)
        if count == 2
        else Meaning(shape, colour, size, place=place, background=background)
        for count, shape, shape2, colour, colour2, size, size2, relation, place, background in table
    ]
