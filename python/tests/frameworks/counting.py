"""A plugin for the frameworks' own tests: leaves out what left_out.toml names, fails if it names a
test that does not exist, and counts how the others ended."""

from __future__ import annotations

import collections
import json
import os
import re
import tomllib
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("left_out.toml")


def left_out(framework: str) -> dict[str, str]:
    """The reasons, by test; `*` stands for anything."""
    entries = tomllib.loads(LIST.read_text()).get(framework, [])
    return {test: entry["reason"] for entry in entries for test in entry["tests"]}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    matched, kept, gone = set(), [], []
    patterns = {
        test: re.compile(re.escape(test).replace(r"\*", ".*") + r"\Z")
        for test in left_out(os.environ["L1D_FRAMEWORK"])
    }
    for item in items:
        tests = {test for test, pattern in patterns.items() if pattern.match(item.nodeid)}
        matched |= tests
        (gone if tests else kept).append(item)
    missing = sorted(patterns.keys() - matched)
    if missing:
        raise pytest.UsageError(f"left_out.toml names tests that do not exist: {missing}")
    config.hook.pytest_deselected(items=gone)
    items[:] = kept


# By test; one with subtests reports several times.
_outcomes = {}


def pytest_runtest_logreport(report):
    worst = ("failed", "skipped", "passed")
    before = _outcomes.get(report.nodeid, "passed")
    _outcomes[report.nodeid] = min(before, report.outcome, key=worst.index)


def pytest_sessionfinish():
    counts = collections.Counter(_outcomes.values())
    Path(os.environ["L1D_COUNTS"]).write_text(json.dumps(counts))
