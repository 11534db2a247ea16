"""A trained model for the tests of scores."""

import pytest


@pytest.fixture(scope="module")
def model(finished):
    return finished.model()
