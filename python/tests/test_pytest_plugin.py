"""The pytest plugin: hazards are a test that sees another's values, a daemon that outlives its
test, and a daemon that fails to start without telling why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import l1d
from l1d.pytest_plugin import Server

pytest_plugins = ["pytester"]


def test_client_and_server_are_a_pair(l1d_server: Server, l1d_client: l1d.Client) -> None:
    l1d_client.set("key", b"value")
    assert l1d_server.client().get("key") == b"value"
    assert l1d_client.has_table


def test_the_environment_names_the_server(l1d_server: Server) -> None:
    assert str(l1d.Client().socket) == l1d_server.socket


def test_killed_server_starts_again(l1d_server: Server, l1d_client: l1d.Client) -> None:
    l1d_client.set("key", b"before")
    first = l1d_server.pid
    l1d_server.kill()
    assert l1d_server.pid == 0
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    with pytest.raises(l1d.Unavailable):
        l1d_client.set("key", b"lost")
    l1d_server.start()
    assert l1d_server.pid not in (0, first)
    l1d_client.set("key", b"after")
    assert l1d_client.get("key") == b"after"


def test_a_server_runs_once(l1d_server: Server) -> None:
    with pytest.raises(RuntimeError, match="runs already"):
        l1d_server.start()


def test_stop_twice(l1d_server: Server) -> None:
    l1d_server.stop()
    l1d_server.stop()
    assert "stopped" in repr(l1d_server)


def test_a_server_starts_again_with_another_configuration(l1d_server: Server) -> None:
    l1d_server.stop()
    l1d_server.start('[[policy]]\nprefix = "analysis:"\nttl = "7s"\n')
    assert "analysis:" in str(l1d_server.client().policy())


@pytest.mark.parametrize("l1d_config", ['[[policy]]\nprefix = "here:"\nttl = "7s"\n'])
def test_configuration_by_fixture(l1d_client: l1d.Client) -> None:
    assert "here:" in str(l1d_client.policy())


def test_factory_removes_what_it_made(l1d_server_factory) -> None:  # type: ignore[no-untyped-def]
    with l1d_server_factory() as server:
        pid, directory, tables = server.pid, server.directory, Path(server._tables)
        assert tables.is_dir()
    assert not directory.exists()
    assert not tables.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_factory_tells_why_a_daemon_does_not_start(l1d_server_factory) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RuntimeError, match="no_such_setting"):
        l1d_server_factory("no_such_setting = 1\n")


def test_as_another_project_uses_it(pytester: pytest.Pytester) -> None:
    """Each test of a project gets an empty cache, and none of its daemons is left at the end."""
    pytester.makepyfile(
        """
        import l1d
        import pytest

        PIDS = open("pids", "a")

        @pytest.fixture(scope="session")
        def shared(l1d_server_factory):
            server = l1d_server_factory(table_size="32MiB")
            print(server.pid, file=PIDS, flush=True)
            return server

        @pytest.mark.parametrize("turn", [1, 2])
        def test_empty(l1d_server, l1d_client, turn):
            print(l1d_server.pid, file=PIDS, flush=True)
            assert l1d_client.get("key") is None
            l1d_client.set("key", b"value")
            assert l1d.Client()["key"] == b"value"

        def test_writes(shared):
            shared.client().set("key", b"value")

        def test_reads(shared):
            assert shared.client().get("key") == b"value"

        def test_fails(l1d_client):
            l1d_client.set("key", b"value")
            raise SystemError
        """
    )
    outcome = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    outcome.assert_outcomes(passed=4, failed=1)
    for pid in (pytester.path / "pids").read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_missing_program_is_explained(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("L1D_PROGRAM", "/nowhere/l1d")
    pytester.makepyfile("def test(l1d_client): pass")
    outcome = pytester.runpytest_subprocess()
    outcome.assert_outcomes(errors=1)
    outcome.stdout.fnmatch_lines(["*L1D_PROGRAM is /nowhere/l1d, but*"])
