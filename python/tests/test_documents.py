"""What the documents show, works."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

import l1d
from l1d.adapters import MultiTierCacheAdapter

PACKAGE = Path(__file__).parents[1]
README = (PACKAGE / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_readme_has_three_examples():
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_of_the_readme_runs(l1d_server, example):
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_rules_of_the_migration_page_are_the_adapters():
    page = (PACKAGE / "docs" / "migration.md").read_text()
    toml = re.search(r"```toml\n(.*?)```", page, re.DOTALL).group(1)
    adapter = MultiTierCacheAdapter(
        "/nowhere/l1d.sock", cross_process_prefixes={"analysis:", "market:"}
    )
    assert tomllib.loads(toml) == tomllib.loads(adapter.policy_toml)


def test_every_name_is_documented():
    missing = []
    for module in modules():
        for name in getattr(module, "__all__", []):
            found = getattr(module, name)
            if (inspect.isclass(found) or inspect.isroutine(found)) and not found.__doc__:
                missing.append(f"{module.__name__}.{name}")
    assert not missing


def test_doctests(l1d_server):
    results = [doctest.testmod(module) for module in modules()]
    assert sum(result.attempted for result in results) > 0
    assert not any(result.failed for result in results)


def modules():
    """The package's modules that need no framework."""
    names = [module.name for module in pkgutil.iter_modules(l1d.__path__)]
    plain = [name for name in names if name not in ("backends", "_l1d", "__main__")]
    return [l1d, *(importlib.import_module(f"l1d.{name}") for name in plain)]
