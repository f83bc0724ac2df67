"""One browser for all tests of a file: a start takes a second."""

import pytest
from helpers.browser import opened


@pytest.fixture(scope="module")
def browser():
    with opened(600, 450) as driver:
        yield driver
