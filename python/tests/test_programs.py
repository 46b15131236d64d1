"""`python -m l1d` and the programs of the package: hazards are a program of another installation,
and a message that does not help whoever has none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from l1d import _programs
from l1d.pytest_plugin import Server


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "l1d", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def nothing_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Neither L1D_PROGRAM nor the package nor PATH has the programs."""
    monkeypatch.delenv("L1D_PROGRAM", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_programs, "_installed", lambda name: iter([tmp_path / "none"]))
    return tmp_path


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_ctl_asks_the_daemon(l1d_server: Server) -> None:
    assert run("ctl", "set", "key", "value").returncode == 0
    assert run("ctl", "get", "key").stdout.strip() == "value"
    assert l1d_server.client().get("key") == b"value"


def test_arguments_and_exit_codes_pass(l1d_server: Server) -> None:
    helped = run("serve", "--help")
    assert helped.returncode == 0 and "--table-size" in helped.stdout
    assert run("serve", "--no-such-option").returncode == 2
    l1d_server.stop()
    assert run("ctl", "get", "key").returncode == 3


def test_without_a_command() -> None:
    misused = run()
    assert misused.returncode == 2 and "demo" in misused.stderr
    helped = run("--help")
    assert helped.returncode == 0 and "demo" in helped.stdout


@pytest.mark.parametrize("command", [["serve"], ["ctl", "stats"], ["demo", "--python"]])
def test_missing_program_is_explained(command: list[str]) -> None:
    missing = run(*command, L1D_PROGRAM="/nowhere/l1d")
    assert missing.returncode == 127
    assert "L1D_PROGRAM is /nowhere/l1d" in missing.stderr and "Traceback" not in missing.stderr


def test_nothing_found_tells_what_to_do(nothing_found: Path) -> None:
    with pytest.raises(_programs.ProgramMissing, match="pip install.*cargo build.*L1D_PROGRAM"):
        _programs.find("l1d")


def test_the_package_comes_before_path(
    nothing_found: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = program(nothing_found / "l1d")
    assert _programs.find("l1d") == str(on_path)
    own = program(nothing_found / "venv" / "bin" / "l1d")
    # A directory of that name, as the package's own, is no program.
    monkeypatch.setattr(_programs, "_installed", lambda name: iter([nothing_found, own]))
    assert _programs.find("l1d") == str(own)


def test_the_variable_comes_first(nothing_found: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(nothing_found / "l1d")
    named, tool = (program(nothing_found / "other" / name) for name in ("l1d", "l1ctl"))
    monkeypatch.setenv("L1D_PROGRAM", str(named))
    assert _programs.find("l1d") == str(named)
    assert _programs.find("l1ctl") == str(tool)


def test_demo_in_python_shows_failure_and_cure() -> None:
    shown = run("demo", "--python")
    assert shown.returncode == 0, shown.stderr
    before, after = shown.stdout.split("2. AFTER")
    assert before.count("GET /signals -> 0 signals") == 5 and "-> 7" not in before
    assert after.count("GET /signals -> 0 signals") == 1
    assert after.count("GET /signals -> 7 signals") == 4
    assert "4 of 4 before, 0 of 4 after" in after
