"""The daemon's access rules, as a process of another user sees them."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

import l1d
from l1d.pytest_plugin import Server

UID = 61_021
CONFIG = f"""
[[access]]
user = {UID}
write = ["mine:"]
"""


def as_another_user(act: Callable[[], None]) -> int:
    """Runs ``act`` in a child of another user; its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(UID, UID, UID)
            os.setresuid(UID, UID, UID)
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_denied_call_is_an_error_of_its_own(l1d_server_factory: Callable[..., Server]) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: nothing is said about other users")
    with l1d_server_factory(CONFIG) as server:
        server.directory.chmod(0o711)
        os.chmod(server.socket, 0o666)

        def act() -> None:
            client = server.client()
            client.set("mine:k", b"v")
            assert client.get("mine:k") == b"v"
            for call in (lambda: client.set("k", b"v"), lambda: client.incr("k")):
                with pytest.raises(l1d.Denied, match="may not write") as denied:
                    call()
                assert isinstance(denied.value, PermissionError)
                assert not denied.value.is_retryable
            assert client.get_many(["mine:k", "k"]) == [b"v", None]

        assert as_another_user(act) == 0
