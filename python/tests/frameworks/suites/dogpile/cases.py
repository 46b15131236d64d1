"""dogpile.cache's tests of every backend."""

import os

from dogpile.testing.fixtures import (
    _GenericBackendTestSuite,
    _GenericMutexTestSuite,
    _GenericSerializerTestSuite,
)


def arguments(**more):
    common = {"socket": os.environ["L1D_SOCKET"], "prefix": "test:", "deadline": 20.0}
    return {"arguments": {**common, **more}}


class TestBackend(_GenericBackendTestSuite):
    """With the lock that all processes share."""

    backend = "l1d"
    config_args = arguments()


class TestSerializer(_GenericSerializerTestSuite, TestBackend):
    pass


class TestThreadLock(_GenericBackendTestSuite):
    """With dogpile's own lock of each process."""

    backend = "l1d"
    config_args = arguments(distributed_lock=False)


class TestExpiration(_GenericBackendTestSuite):
    """With values that the daemon drops."""

    backend = "l1d"
    config_args = arguments(l1d_expiration_time=10, lock_lease=5)


class TestMutex(_GenericMutexTestSuite):
    backend = "l1d"
    config_args = arguments(lock_prefix="lock:")
