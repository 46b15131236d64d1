"""Django's tests of every cache, with the sync methods and with the async ones."""

import os

from asgiref.sync import async_to_sync
from cache.tests import BaseCacheTests, caches_setting_for_tests
from django.test import TestCase, override_settings

from l1d.backends.django import L1dCache


def caches(backend):
    # The table evicts, not the backend.
    exclude = {"cull", "zero_cull"}
    return caches_setting_for_tests(
        BACKEND=backend,
        LOCATION=os.environ["L1D_SOCKET"],
        OPTIONS={"deadline": 20.0},
        exclude=exclude,
    )


@override_settings(CACHES=caches("l1d.backends.django.L1dCache"))
class L1dCacheTests(BaseCacheTests, TestCase):
    pass


class AsyncL1dCache(L1dCache):
    """Calls the async form of each method."""


def _through_async(name):
    def method(self, *args, **kwargs):
        return async_to_sync(getattr(self, f"a{name}"))(*args, **kwargs)

    return method


for name in (
    "add clear close decr decr_version delete delete_many get get_many get_or_set has_key incr "
    "incr_version set set_many touch"
).split():
    setattr(AsyncL1dCache, name, _through_async(name))


@override_settings(CACHES=caches("test_l1d.AsyncL1dCache"))
class AsyncL1dCacheTests(BaseCacheTests, TestCase):
    pass
