"""Flask-Caching's tests of every cache."""

import os
import time

import pytest
from test_backend_cache import GenericCacheTests

from l1d.backends.flask_caching import L1dCache


class TestL1dCache(GenericCacheTests):
    _can_use_fast_sleep = False

    @pytest.fixture
    def sleep(self):
        return time.sleep

    @pytest.fixture
    def make_cache(self):
        cache = L1dCache(os.environ["L1D_SOCKET"], key_prefix="generic:", deadline=20.0)
        yield lambda: cache
        cache.clear()
