"""Several processes share the tests: they agree on the names, and the groups of tests hold."""

import os

import pytest

pytestmark = pytest.mark.xdist_group("of this file")


def test_a_group_is_a_part_of_the_id_by_which_xdist_sends_tests(request):
    """What is costly is made once, and what excludes itself does not run at once."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("groups count among several processes alone (-n 2 --dist loadgroup)")
    assert request.node.nodeid.endswith("@of this file")


def test_no_name_is_made_of_a_long_value(request):
    """A pickle, say, is another one in each process, and then no test runs at all."""
    assert max(len(item.nodeid) for item in request.session.items) < 400


@pytest.mark.parametrize("content", [b"x" * 1000, os.urandom(1000)])
def test_a_long_value_is_named_by_its_length(request, content):
    assert "[content of 1000" in request.node.nodeid
