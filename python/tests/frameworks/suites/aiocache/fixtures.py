"""aiocache's fixtures, with caches on l1d in the place of those on Redis. Its tests find this
beside them, in the place of their own conftest, which the harness renames."""

import asyncio
import os

import pytest
from l1d.backends.aiocache import L1dCache

from ..utils import KEY_LOCK, Keys
from .conftest_of_release import *  # noqa: F403


@pytest.fixture
async def redis_cache():
    cache = L1dCache(os.environ["L1D_SOCKET"], namespace="test", client={"deadline": 20.0})
    async with cache:
        yield cache
        await asyncio.gather(*(cache.delete(key) for key in (*Keys, KEY_LOCK)))


@pytest.fixture(params=[pytest.param("redis_cache", id="l1d")])
def cache(request):
    return request.getfixturevalue(request.param)
