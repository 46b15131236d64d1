"""A daemon of one's own, for tests and for the demo."""

from __future__ import annotations

import os
import shutil
import signal
import socket as sockets
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._programs import find

if TYPE_CHECKING:
    from . import Client

_PATIENCE = 20.0
"""Seconds that a daemon may take to start, or to stop."""


class Server:
    """A private daemon. At the end of ``with`` it is stopped and its files are removed."""

    socket: str
    """Its control socket, for ``Client(socket=...)`` or ``L1D_SOCKET``."""

    directory: Path
    """Its own directory: ``l1d.toml``, ``log``, the socket."""

    def __init__(self, config: str = "", table_size: str | None = "16MiB") -> None:
        # Not in pytest's tmp_path: the path of a socket has 107 bytes at most.
        self.directory = Path(tempfile.mkdtemp(prefix="l1d-test-"))
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self._tables = tempfile.mkdtemp(prefix="l1d-test-", dir=memory)
        self.socket = str(self.directory / "l1d.sock")
        self._config = config
        self._table_size = table_size
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process; 0 while it does not run."""
        return self._process.pid if self._process is not None else 0

    def start(self, config: str | None = None) -> None:
        """Starts it, and returns when it answers. After ``stop`` or ``kill``: with the same
        directories, and with another configuration if one is given.

        Raises RuntimeError with the daemon's log if it does not start.
        """
        if self._process is not None:
            pid = self._process.pid
            raise RuntimeError(f"the daemon runs already, as process {pid}: stop it first")
        if config is not None:
            self._config = config
        file = self.directory / "l1d.toml"
        file.write_text(self._config, encoding="utf-8")
        # It may hold a password.
        file.chmod(0o600)
        command = [find("l1d"), "serve", "--config", str(file), "--socket", self.socket]
        command += ["--table-directory", f"{self._tables}/tables"]
        if self._table_size is not None:
            command += ["--table-size", self._table_size]
        notify = self.directory / "notify"
        notify.unlink(missing_ok=True)
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM) as ready:
            ready.bind(str(notify))
            with open(self.directory / "log", "ab") as log:
                environment = {**os.environ, "NOTIFY_SOCKET": str(notify)}
                self._process = subprocess.Popen(command, env=environment, stderr=log)
            self._wait_until(ready)

    def stop(self) -> None:
        """Stops it in order, as SIGTERM does, and waits for its end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kills it, as a crash would, and waits for its end."""
        self._end(signal.SIGKILL)

    def log(self) -> str:
        """Its log so far."""
        return (self.directory / "log").read_text(encoding="utf-8", errors="replace")

    def client(self, **options: Any) -> Client:
        """A client of it. The options are those of :class:`l1d.Client`; its deadlines are 10
        seconds if none are given, because machines that run tests are busy."""
        from . import Client

        return Client(self.socket, **{"deadline": 10.0, "attach_deadline": 10.0, **options})

    def close(self) -> None:
        """Stops it and removes its files."""
        self.stop()
        for directory in (self.directory, Path(self._tables)):
            shutil.rmtree(directory, ignore_errors=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<l1d server at {self.socket}, {f'process {self.pid}' if self.pid else 'stopped'}>"

    def _wait_until(self, ready: sockets.socket) -> None:
        """Waits for the daemon's word that it serves, which it gives as to systemd."""
        assert self._process is not None
        # Only the end of a daemon that fails is polled for.
        ready.settimeout(0.05)
        end = time.monotonic() + _PATIENCE
        while self._process.poll() is None and time.monotonic() < end:
            try:
                if ready.recv(512).startswith(b"READY=1"):
                    return
            except TimeoutError:
                pass
        self.kill()
        raise RuntimeError(f"the daemon did not start; its log:\n{self.log()}")

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise RuntimeError(f"the daemon did not stop; its log:\n{self.log()}") from None
