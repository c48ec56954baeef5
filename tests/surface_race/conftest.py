"""What the tests of races share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def kernels(tmp_path_factory):
    """Keep this session's kernels away from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLCV_BENCH_CACHE", str(tmp_path_factory.mktemp("kernels")))
        yield
