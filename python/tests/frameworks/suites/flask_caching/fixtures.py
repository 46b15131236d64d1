"""Flask-Caching's fixtures, with a cache on l1d. Its tests find this beside them, in the place of
their own conftest, which the harness renames."""

import os
import time

import pytest
from conftest_of_release import *  # noqa: F403
from conftest_of_release import app as _app
from l1d.backends.flask_caching import L1dCache


class PatientCache(L1dCache):
    def __init__(self, *args, **options):
        super().__init__(*args, deadline=20.0, **options)


@pytest.fixture
def app(request):
    app = _app.__wrapped__(request)
    app.config["CACHE_TYPE"] = "conftest.PatientCache"
    app.config["CACHE_L1D_SOCKET"] = os.environ["L1D_SOCKET"]
    PatientCache(os.environ["L1D_SOCKET"], key_prefix="flask_cache_").clear()
    return app


class _RealClock:
    def advance(self, seconds):
        assert seconds <= 5, "no test waits that long"
        time.sleep(seconds)


@pytest.fixture
def clock():
    """Theirs is a clock inside SimpleCache. The daemon has its own, so this waits."""
    return _RealClock()
