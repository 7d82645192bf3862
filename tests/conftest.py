"""No test reads or writes the user's cache."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
