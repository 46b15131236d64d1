"""Servers and helpers that several tests use."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest


def free_port() -> int:
    """A port that nothing listens at now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Returns when something answers at the port."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise RuntimeError(f"{process.args!r} does not listen at {port}")


@dataclass
class Tiers:
    """A real memcached and a real Redis."""

    memcached: int
    redis: int

    @property
    def config(self) -> str:
        """The daemon's configuration that uses both."""
        return (
            f'[l2]\naddress = "127.0.0.1:{self.memcached}"\n'
            f'[l3]\nurl = "redis://127.0.0.1:{self.redis}/0"\n'
        )


@pytest.fixture(scope="session")
def tiers() -> Iterator[Tiers]:
    """Servers of the session's own."""
    found = Tiers(free_port(), free_port())
    memcached = ["memcached", "-l", "127.0.0.1", "-p", str(found.memcached), "-u", "nobody"]
    redis = ["redis-server", "--port", str(found.redis), "--bind", "127.0.0.1", "--save", ""]
    servers = [
        (found.memcached, subprocess.Popen(memcached)),
        (found.redis, subprocess.Popen(redis, stdout=subprocess.DEVNULL)),
    ]
    try:
        for port, process in servers:
            wait_for_port(port, process)
        yield found
    finally:
        for _, process in servers:
            process.kill()
            process.wait()
