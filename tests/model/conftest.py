"""Every module that asks for `engine` runs once on each engine."""

import pytest

from tests.model import runs


@pytest.fixture(scope="module", params=runs.ENGINES)
def engine(request):
    """The engine that `runs.run` uses in this module's tests."""
    before, runs.engine_in_use = runs.engine_in_use, request.param
    yield request.param
    runs.engine_in_use = before
