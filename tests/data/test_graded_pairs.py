"""Which sets are graded."""

from clipedu.data.graded_pairs import GradedPairs
from clipedu.data.pairs import Pairs
from clipedu.data.scenes.dataset import Scenes


class Photographs(Pairs):
    """Pairs of which nothing is known but pixels and captions."""

    def __len__(self):
        return 2

    def captions(self, row):
        return ["a dog"]


def test_scenes_are_graded_and_photographs_are_not():
    assert isinstance(Scenes("val", 2), GradedPairs)
    assert not isinstance(Photographs(), GradedPairs)


def test_a_chain_says_what_its_meanings_claim():
    scenes = Scenes("val", 3)
    for row in range(3):
        chain, meanings = scenes.chain(row), scenes.chain_meanings(row)
        assert len(chain) == len(meanings) == 6 and len(set(chain)) == 6
        named = [sum(value is not None for value in meaning) for meaning in meanings]
        assert named == sorted(named)  # each names all that the one before it named, and more
