"""How a blend was made, in words."""

from clipedu.runs.blend_recipe import Recipe


def test_its_parts_in_words():
    assert Recipe(["runs/a", "runs/b"], [0.75, 0.25], "interpolated", "").words == "0.75 of runs/a and 0.25 of runs/b"
    assert Recipe("abc", [1 / 3, 0, 2 / 3], "none", "").words == "0.333 of a and 0.667 of c"
    assert Recipe("abc", [0.2, 0.3, 0.5], "none", "").words == "0.2 of a, 0.3 of b and 0.5 of c"
    assert Recipe("ab", [1, 0], "own", "").words == "1 of a"
