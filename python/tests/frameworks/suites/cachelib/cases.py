"""cachelib's tests of every cache, with its own serializer and another, with and without prefix."""

import os

import pytest
from clear import ClearTests
from common import CommonTests
from delete_many_with_prefix import DeleteManyWithPrefixTests
from has import HasTests
from serializer import SerializerTests

from cachelib.serializers import BaseSerializer
from l1d.backends.cachelib import L1dCache


class ReprSerializer(BaseSerializer):
    def dumps(self, value):
        return repr(value).encode()

    def loads(self, data):
        return eval(data.decode())


class ReprCache(L1dCache):
    serializer = ReprSerializer()


@pytest.fixture(autouse=True, params=[L1dCache, ReprCache])
def cache_factory(request, key_prefix):
    def factory(self, *args, **kwargs):
        kwargs.setdefault("key_prefix", key_prefix)
        kwargs.setdefault("deadline", 20.0)
        cache = request.param(os.environ["L1D_SOCKET"], *args, **kwargs)
        cache.clear()
        return cache

    request.cls.cache_factory = factory


@pytest.fixture(params=[None, "test:", lambda: "called:"], ids=["none", "text", "callable"])
def key_prefix(request):
    return request.param


class TestL1dCache(CommonTests, ClearTests, HasTests, DeleteManyWithPrefixTests, SerializerTests):
    pass
