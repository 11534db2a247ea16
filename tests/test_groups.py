"""The groups of tests hold: what is costly is made once, and what excludes itself does not run at once."""

import os

import pytest

pytestmark = pytest.mark.xdist_group("of this file")


def test_a_group_is_a_part_of_the_id_by_which_xdist_sends_tests(request):
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("groups count among several processes alone (-n 2 --dist loadgroup)")
    assert request.node.nodeid.endswith("@of this file")
