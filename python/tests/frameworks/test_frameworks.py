"""The frameworks' own tests, on L1 alone and with a memcached and a redis-server behind the daemon.

left_out.toml lists what is left out, with the reasons.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from l1d.pytest_plugin import Server

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import sources  # noqa: E402

#: They sleep most of the time.
AT_A_TIME = 5


#: Our files have other names here, because here they are no tests.
NAMES_THERE = {"cases.py": "test_l1d.py", "fixtures.py": "conftest.py"}


@dataclass(frozen=True)
class Suite:
    """The tests of a framework: exactly this number must pass, and be skipped."""

    release: str
    passed: int
    skipped: int = 0
    #: Where the release has its tests, and ours are put.
    place: str = "tests"
    arguments: tuple[str, ...] = ("test_l1d.py",)


SUITES = {
    "aiocache": Suite("aiocache", 124, 0, "tests/acceptance", ("-o", "asyncio_mode=auto", ".")),
    "cachelib": Suite("cachelib", 6 * 21),
    # Sync and async: 54 tests, of which those of culling skip themselves without it.
    "django": Suite("Django", 2 * 51, 2 * 3),
    "dogpile": Suite("dogpile.cache", 104, 0, "tests/cache"),
    "flask_caching": Suite("Flask-Caching", 177, 3, "tests", ("--ignore", "typing", ".")),
}

# The longest first.
RUNS = [
    (name, below)
    for name in ("flask_caching", "dogpile", "django", "cachelib", "aiocache")
    for below in ("l1", "tiers")
]


@pytest.fixture(scope="module")
def runs(tiers) -> Iterator[dict[tuple[str, str], Future]]:
    sources.download()
    # Patient, because machines that run tests are busy. Each framework has keys of its own there.
    below = (
        f'[l2]\naddress = "127.0.0.1:{tiers.memcached}"\ndeadline = "10s"\n'
        f'[l3]\nurl = "redis://127.0.0.1:{tiers.redis}/0"\ndeadline = "10s"\n'
    )
    configs = {"l1": "", "tiers": below}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {
            (name, below): pool.submit(_run, name, configs[below])
            for name, below in RUNS
            if _is_installed(SUITES[name].release)
        }


@pytest.mark.parametrize(("name", "below"), RUNS, ids=["-".join(run) for run in RUNS])
def test_own_tests_of(name, below, runs, capsys) -> None:
    suite = SUITES[name]
    if (name, below) not in runs:
        pytest.skip(f"{suite.release} is not installed")
    output, counts = runs[name, below].result()
    with capsys.disabled():
        print(f"\n{suite.release} on {below}: {output.splitlines()[-1]}")
    expected = {"passed": suite.passed, "skipped": suite.skipped}
    assert counts == {outcome: count for outcome, count in expected.items() if count}, output


def _is_installed(release: str) -> bool:
    """True if it is; it must be the release whose tests these are."""
    try:
        installed = metadata.version(release)
    except metadata.PackageNotFoundError:
        return False
    pinned = sources.releases()[release][0]
    assert installed == pinned, f"{release} {installed} is installed; its tests are of {pinned}"
    return True


def _run(name: str, config: str) -> tuple[str, dict[str, int]]:
    """Runs the tests in a process of their own; returns its output, and how they ended."""
    suite = SUITES[name]
    with tempfile.TemporaryDirectory(prefix="l1d-test-") as directory, Server(config) as server:
        server.start()
        place = sources.unpack(suite.release, Path(directory)) / suite.place
        _put_in(HERE / "suites" / name, place)
        counts = Path(directory) / "counts"
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-W", "ignore"]
        command += ["-p", "counting", "-p", "no:cacheprovider", "-c", os.devnull]
        command += ["--rootdir", ".", "--confcutdir", "."]
        environment = {
            **os.environ,
            "L1D_COUNTS": str(counts),
            "L1D_FRAMEWORK": name,
            "L1D_SOCKET": server.socket,
            "PYTHONPATH": os.pathsep.join((str(HERE), str(place))),
        }
        ended = subprocess.run(
            [*command, *suite.arguments],
            cwd=place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return ended.stdout, json.loads(counts.read_text()) if counts.exists() else {}


def _put_in(ours: Path, place: Path) -> None:
    """Puts our files beside the release's tests. A conftest of ours uses theirs."""
    for file in ours.glob("*.py"):
        target = place / NAMES_THERE[file.name]
        if target.exists():
            target.rename(place / "conftest_of_release.py")
        shutil.copy(file, target)
