"""The registry of geometries, as the package fills it."""

from clipedu.geometry import GEOMETRIES, build_geometry
from clipedu.geometry.registry import names_with_cones


def test_entries_are_named_as_their_classes():
    assert all(entry.build.name == name for name, entry in GEOMETRIES.items())


def test_names_with_cones_are_those_that_have_them():
    assert names_with_cones() == [name for name in GEOMETRIES if build_geometry(name, 3).has_cones]
    assert set(GEOMETRIES) - set(names_with_cones()) == {"cosine", "elliptic"}
