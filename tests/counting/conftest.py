"""What the tests of counting share."""

from __future__ import annotations

import functools

import pytest

from mlcv_bench.counting.cost import count


@pytest.fixture(scope="session")
def counted():
    """Count each network at its own input once."""
    return functools.cache(count)
