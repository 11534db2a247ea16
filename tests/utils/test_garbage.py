"""The search for garbage is seldom."""

import gc

import pytest

from clipedu.utils.garbage import NEW_OBJECTS, collect_seldom


@pytest.fixture(autouse=True)
def as_before():
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)


def test_it_still_finds_cycles_after_many_new_objects():
    found = []

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            found.append(1)

    collect_seldom()
    assert gc.get_threshold()[0] == NEW_OBJECTS and gc.isenabled()
    Cycle()
    kept = [[] for _ in range(2 * NEW_OBJECTS)]
    assert found and kept
