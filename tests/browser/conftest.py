"""One browser and one lab for all tests of this folder, which run one after the other: their group is "browser"."""

import pytest

from tests.helpers.browser import started


@pytest.fixture(scope="package")  # ends with the folder: an event loop runs as long, and others could not start theirs
def browser(tmp_path_factory):
    with started(tmp_path_factory.mktemp("browser")) as browser:
        yield browser
