"""What the tests of this folder share."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def scored_on_few(few_scenes):
    """All runs of this folder are scored on few scenes."""
