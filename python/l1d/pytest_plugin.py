"""pytest fixtures: a daemon of the test's own, and a client of it.

``l1d_server``
    A private daemon for one test, which begins with an empty cache. While the test runs,
    ``L1D_SOCKET`` names its socket, so that the code under test finds it as it would find the
    host's.
``l1d_client``
    An :class:`l1d.Client` of it.
``l1d_config``
    The daemon's configuration, as TOML; empty. A module, or a test by ``parametrize``, gives
    another.
``l1d_server_factory``
    Starts daemons that live until they are stopped or the session ends.

Each daemon is the real ``l1d serve``, with its socket and its table in new directories. The program
is the one of this package, or the one that ``L1D_PROGRAM`` names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from ._server import Server

if TYPE_CHECKING:
    from . import Client

__all__ = ["Server", "l1d_client", "l1d_config", "l1d_server", "l1d_server_factory"]


@pytest.fixture(scope="session")
def l1d_server_factory() -> Iterator[Callable[..., Server]]:
    """A function that starts a private daemon: ``factory(config="", table_size="16MiB")``.

    The configuration is TOML. With ``table_size=None`` the configuration sets the size. What is not
    stopped by ``with`` is stopped when the session ends.
    """
    servers: list[Server] = []

    def start(config: str = "", table_size: str | None = "16MiB") -> Server:
        server = Server(config, table_size)
        servers.append(server)
        server.start()
        return server

    try:
        yield start
    finally:
        for server in servers:
            server.close()


@pytest.fixture
def l1d_config() -> str:
    """The TOML configuration of ``l1d_server``."""
    return ""


@pytest.fixture
def l1d_server(
    l1d_server_factory: Callable[..., Server], l1d_config: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """A private daemon for this test; ``L1D_SOCKET`` names it."""
    with l1d_server_factory(l1d_config) as server:
        monkeypatch.setenv("L1D_SOCKET", server.socket)
        yield server


@pytest.fixture
def l1d_client(l1d_server: Server) -> Client:
    """A client of the test's daemon."""
    return l1d_server.client()
